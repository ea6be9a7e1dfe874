import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from automl import data, zoo
from automl.data import sources
from automl.errors import DataError

SIZES = {"cifar10": (100, 30, 10), "cifar100": (200, 100, 100), "mnist": (60, 20, 10), "fashion_mnist": (60, 20, 10)}


def keys(batches) -> list[bytes]:
    """Each image as bytes, to recognise it in another split."""
    return [image.numpy().tobytes() for (x,), _ in batches for image in x]


def load(name, root, **changes):
    options = {"validation_size": 20, "calibration_size": 25, "batch_size": 10} | changes
    return data.load(name, root=str(root), **options)


def test_names():
    assert set(data.names()) == {*SIZES, "digits", "folder", "arrays", "table"}


@pytest.mark.parametrize("name", SIZES)
def test_splits_are_disjoint_and_of_the_sizes_asked_for(data_root, name):
    train, test, classes = SIZES[name]
    splits = load(name, data_root)
    validation, calibration = set(keys(splits.validation)), set(keys(splits.calibration))
    rest, held_out = set(keys(splits.train.batches(10))), set(keys(splits.test()))
    assert (len(validation), len(calibration), len(rest), len(held_out)) == (20, 25, train - 20, test)
    assert calibration < rest
    assert not validation & rest and not held_out & (validation | rest)
    assert splits.classes == classes
    channels, size = (3, 32) if name.startswith("cifar") else (1, 28)
    assert splits.validation[0][0][0].shape == (10, channels, size, size)


def test_images_keep_their_labels(data_root):
    """In the files written here image i of CIFAR-10's every batch has label i % 10."""
    everything = load("cifar10", data_root, validation_size=1, calibration_size=99)
    label_of = {}
    for (x,), labels in everything.calibration + everything.validation:
        label_of |= dict(zip((image.numpy().tobytes() for image in x), labels.tolist(), strict=True))
    images = np.concatenate(
        [
            pickle.loads((data_root / "cifar-10-batches-py" / f"data_batch_{i}").read_bytes())[b"data"]
            for i in range(1, 6)
        ]
    )
    mean, std = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
    for i, row in enumerate(images):
        image = (torch.from_numpy(row.reshape(3, 32, 32)).float() / 255 - mean[:, None, None]) / std[:, None, None]
        assert label_of[image.numpy().tobytes()] == i % 20 % 10


def test_validation_is_stratified(data_root):
    labels = torch.cat([labels for _, labels in load("cifar10", data_root).validation])
    assert torch.bincount(labels, minlength=10).tolist() == [2] * 10


def test_a_split_is_a_function_of_its_seed(data_root):
    first, again, other = (load("cifar10", data_root, split_seed=seed) for seed in (1, 1, 2))
    assert keys(first.validation) == keys(again.validation) and keys(first.calibration) == keys(again.calibration)
    assert set(keys(first.validation)) != set(keys(other.validation))
    assert keys(first.test()) == keys(other.test())


def test_a_smaller_validation_subset_is_part_of_a_larger(data_root):
    small, large = load("cifar10", data_root, validation_size=10), load("cifar10", data_root, validation_size=30)
    assert set(keys(small.validation)) < set(keys(large.validation))


def test_recalibration_augments_the_calibration_images(data_root):
    splits = load("cifar10", data_root)
    one, again, other = splits.recalibration(1), splits.recalibration(1), splits.recalibration(2)
    assert keys(one) == keys(again) != keys(other)
    assert [labels.tolist() for _, labels in one] == [labels.tolist() for _, labels in splits.calibration]
    assert len(set(keys(one)) - set(keys(splits.calibration))) > 20
    plain = load("cifar10", data_root, augment=False)
    assert keys(plain.recalibration(1)) == keys(splits.calibration)


@pytest.mark.parametrize(("name", "mirrored"), [("cifar10", True), ("fashion_mnist", True), ("mnist", False)])
def test_digits_are_never_mirrored(data_root, name, mirrored):
    assert load(name, data_root).train.flip is mirrored


def test_test_images_are_read_only_when_asked_for(data_root):
    splits = load("cifar10", data_root)
    (data_root / "cifar-10-batches-py" / "test_batch").write_bytes(b"damaged")
    load("cifar10", data_root)
    with pytest.raises(DataError, match="test_batch"):
        splits.test()


def test_splits_travel_to_other_processes(data_root):
    splits = load("cifar10", data_root)
    copy = pickle.loads(pickle.dumps(splits))
    assert keys(copy.test()) == keys(splits.test()) and keys(copy.recalibration(3)) == keys(splits.recalibration(3))
    assert len(pickle.dumps(splits.recalibration)) < 25 * 3072 * 1.2  # the calibration images, not the whole set


def test_files_may_lie_directly_in_the_root_and_be_gzipped(data_root):
    nested = load("fashion_mnist", data_root)
    direct = load("fashion_mnist", data_root / "FashionMNIST" / "raw")
    assert keys(nested.validation) == keys(direct.validation)


def test_a_root_that_is_not_there(data_root):
    with pytest.raises(DataError, match=r"no data root at .*nowhere"):
        load("cifar10", data_root / "nowhere")


def test_missing_files_are_named_with_the_place_they_belong_in(data_root):
    folder = data_root / "cifar-10-batches-py"
    (folder / "data_batch_3").unlink()
    (folder / "test_batch").unlink()
    with pytest.raises(DataError, match=r"place data_batch_3, test_batch in .*cifar-10-batches-py"):
        load("cifar10", data_root)
    (data_root / "empty").mkdir()
    with pytest.raises(DataError, match=r"place train-images-idx3-ubyte.* in .*MNIST.raw"):
        load("mnist", data_root / "empty")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"validation_size": 90}, "validation_size 90 and calibration_size 25 together exceed the 100 training"),
        ({"validation_size": 0}, "validation_size must be a whole number of at least 1, got 0"),
        ({"calibration_size": -3}, "calibration_size must be"),
        ({"batch_size": 2.5}, "batch_size must be"),
    ],
)
def test_sizes_that_do_not_fit(data_root, change, message):
    with pytest.raises(DataError, match=message):
        load("cifar10", data_root, **change)


def test_an_unknown_name_offers_the_nearest(data_root):
    with pytest.raises(DataError, match="did you mean 'cifar10'"):
        load("cifar-10", data_root)


def test_digits_come_with_a_library():
    splits = data.load("digits", validation_size=400, calibration_size=256)
    test = splits.test()
    assert len(splits.train) == 897 and sum(len(labels) for _, labels in test) == 500
    assert splits.train.images.shape[1:] == (1, 8, 8) and splits.train.images.max() == 255
    assert splits.train.shift == 1 and not splits.train.flip
    counts = torch.bincount(torch.cat([labels for _, labels in test]))
    assert counts.min() >= 45 and counts.max() <= 55
    # The set holds no image twice, so the test images appear nowhere else.
    everything = keys(test) + keys(splits.train.batches(100)) + keys(splits.validation)
    assert len(set(everything)) == len(everything) == 1797


def test_digits_are_those_that_the_library_reads_wherever_it_has_its_file(monkeypatch):
    from sklearn.datasets import load_digits

    read = sources._digits.__wrapped__()
    pixels, labels = load_digits(return_X_y=True)
    assert np.array_equal(read[0].reshape(1797, 64), np.rint(pixels * (255 / 16))) and np.array_equal(read[1], labels)
    monkeypatch.setattr(sources, "find_spec", lambda name: None)
    for one, other in zip(read, sources._digits.__wrapped__(), strict=True):
        assert np.array_equal(one, other) and one.dtype == other.dtype


def test_digits_are_split_the_same_way_everywhere():
    """The shipped weights were trained on exactly these images: the split must never move."""
    splits = data.load("digits", validation_size=400, calibration_size=256)
    assert hashlib.sha256(splits.train.images.numpy().tobytes()).hexdigest()[:16] == "73817043816fd503"


def test_shipped_digits_weights_are_good_on_images_they_have_not_seen():
    weights = Path(__file__).parents[2] / "experiments" / "digits" / "small_cnn.safetensors"
    network = zoo.load_model("small_cnn", {}, str(weights))
    validation = data.load("digits", validation_size=400, calibration_size=256, batch_size=400).validation
    ((inputs, labels),) = validation
    with torch.inference_mode():
        right = (network(*inputs).argmax(1) == labels).float().mean()
    assert right > 0.98
