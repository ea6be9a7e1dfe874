import gzip
import os
import pickle
import struct

import numpy as np
import pytest

from automl.data.readers import read_cifar, read_idx, read_mnist
from automl.errors import DataError


class Malicious:
    """Unpickling it runs a command."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_cifar_planes_come_back_as_channels(tmp_path, writers):
    labels = np.array([3, 1, 9, 0])
    data = writers["cifar_batch"](tmp_path / "data_batch_1", labels)
    images, read = read_cifar(tmp_path / "data_batch_1", b"labels", 10)
    assert images.shape == (4, 3, 32, 32) and images.dtype == np.uint8
    assert read.tolist() == labels.tolist() and read.dtype == np.int64
    assert images[2, 1, 5, 7] == data[2, 1024 + 5 * 32 + 7]


def test_cifar_as_python_2_pickled_it(tmp_path):
    """The published files are protocol 2 from Python 2: byte strings for keys, numpy.core for numpy's inner parts."""
    data = np.random.default_rng(0).integers(0, 256, (2, 3072), dtype=np.uint8)
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    state = b"(K\x01K\x02M\x00\x0c\x86" + dtype + b"\x89T" + struct.pack("<i", data.size) + data.tobytes() + b"tb"
    (tmp_path / "batch").write_bytes(b"\x80\x02}(U\x06labels](K\x07K\x01eU\x04data" + array + state + b"u.")
    images, labels = read_cifar(tmp_path / "batch", b"labels", 10)
    assert np.array_equal(images.reshape(2, 3072), data) and labels.tolist() == [7, 1]


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path):
    mark = tmp_path / "ran"
    for i, content in enumerate([Malicious(mark), {b"data": Malicious(mark)}, [np.zeros(3), Malicious(mark)]]):
        path = tmp_path / f"batch_{i}"
        path.write_bytes(pickle.dumps(content))
        with pytest.raises(DataError, match="system, which is no part of an array"):
            read_cifar(path, b"labels", 10)
    assert not mark.exists()
    pickle.loads((tmp_path / "batch_0").read_bytes())
    assert mark.exists()  # the same file does run its command when read without care


@pytest.mark.parametrize("name", ["eval", "getattr", "__import__", "exec"])
def test_builtins_are_refused(tmp_path, name):
    (tmp_path / "batch").write_bytes(b"\x80\x02cbuiltins\n" + name.encode() + b"\n.")
    with pytest.raises(DataError, match=f"builtins.{name}"):
        read_cifar(tmp_path / "batch", b"labels", 10)


@pytest.mark.parametrize(
    "content",
    [
        {b"data": np.zeros((2, 3072), np.float32), b"labels": [0, 1]},
        {b"data": np.zeros((2, 100), np.uint8), b"labels": [0, 1]},
        {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]},
        {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 10]},
        {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0.0, 1.0]},
        {b"data": np.zeros((2, 3072), np.uint8), b"labels": [[0], [1, 2]]},
        {b"data": np.zeros((2, 3072), np.uint8)},
        {b"labels": [0, 1]},
        [1, 2],
    ],
)
def test_cifar_files_of_the_wrong_shape(tmp_path, content):
    (tmp_path / "batch").write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match="batch"):
        read_cifar(tmp_path / "batch", b"labels", 10)


def test_a_truncated_or_absent_cifar_file(tmp_path, writers):
    path = tmp_path / "data_batch_1"
    writers["cifar_batch"](path, np.arange(4))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="Fetch it again"):
        read_cifar(path, b"labels", 10)
    with pytest.raises(DataError, match="cannot read"):
        read_cifar(tmp_path / "absent", b"labels", 10)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_of_any_dimension(tmp_path, writers, suffix):
    array = np.random.default_rng(0).integers(0, 256, (3, 4, 5)).astype(np.uint8)
    writers["idx"](tmp_path / f"a-idx3-ubyte{suffix}", array)
    assert np.array_equal(read_idx(tmp_path / f"a-idx3-ubyte{suffix}"), array)
    writers["idx"](tmp_path / f"b-idx1-ubyte{suffix}", array[0, 0])
    assert np.array_equal(read_idx(tmp_path / f"b-idx1-ubyte{suffix}"), array[0, 0])


def test_damaged_idx_files(tmp_path, writers):
    path, packed = tmp_path / "a-idx1-ubyte", tmp_path / "b-idx1-ubyte.gz"
    writers["idx"](path, np.arange(9))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"holds 8 bytes, its header says \(9,\)"):
        read_idx(path)
    for content in (b"", b"\x00\x00\x08", b"\x00\x00\x08\x03\x00", b"GIF89a"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="not an IDX file"):
            read_idx(path)
    packed.write_bytes(gzip.compress(b"x" * 1000)[:-6])
    with pytest.raises(DataError, match="damaged"):
        read_idx(packed)
    packed.write_bytes(b"not gzip")
    with pytest.raises(DataError, match="damaged"):
        read_idx(packed)


def test_mnist_images_and_labels_must_fit_each_other(tmp_path, writers):
    images, labels = tmp_path / "images", tmp_path / "labels"
    writers["idx"](images, np.zeros((5, 28, 28)))
    writers["idx"](labels, np.zeros(5))
    assert read_mnist(images, labels, 10)[0].shape == (5, 1, 28, 28)
    writers["idx"](labels, np.zeros(4))
    with pytest.raises(DataError, match="one label for each of 5 images"):
        read_mnist(images, labels, 10)
    with pytest.raises(DataError, match=r"must hold images \[n, h, w\]"):
        read_mnist(labels, labels, 10)
