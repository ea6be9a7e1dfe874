"""Readers for the published file formats of MNIST and CIFAR."""

from __future__ import annotations

import gzip
import pickle
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from automl.errors import DataError

_ALLOWED = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
}


class ArrayUnpickler(pickle.Unpickler):
    """Reads numpy arrays and Python's own containers, numbers and bytes; refuses everything that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        """The class or function a pickle asks for, if it is one an array is made with."""
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no part of an array")
        return super().find_class(module, name)


def read_cifar(path: Path, label_key: bytes, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """One batch file of CIFAR-10 or CIFAR-100: images uint8 [n, 3, 32, 32], labels int64 [n].

    The file is a pickled dict with the pixels under `b"data"`, uint8 [n, 3072], a row holding the red, green and
    blue planes, and the labels under `label_key` (Krizhevsky 2009). Raises DataError for anything else.
    """
    try:
        with path.open("rb") as file:
            content = ArrayUnpickler(file, encoding="bytes").load()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}") from error
    except Exception as error:  # a damaged pickle may raise anything
        raise DataError(f"{path} is not a CIFAR batch file: {error}. Fetch it again") from error
    data = content.get(b"data") if isinstance(content, dict) else None
    labels = content.get(label_key) if isinstance(content, dict) else None
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3072:
        raise DataError(f"{path} is not a CIFAR batch file: expected uint8 pixels [n, 3072] under b'data'")
    return data.reshape(-1, 3, 32, 32), _checked_labels(path, labels, len(data), classes)


def read_idx(path: Path) -> np.ndarray:
    """One IDX file of unsigned bytes, plain or gzipped by its name: uint8 of the shape its header gives.

    The header is two zero bytes, the type (8), the number of dimensions and each dimension as a big-endian 32-bit
    integer (LeCun, Cortes and Burges 1998). Raises DataError for anything else.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged: {error}. Fetch it again") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}") from error
    if len(content) < 4 or content[:3] != b"\x00\x00\x08" or len(content) < 4 + 4 * content[3]:
        raise DataError(f"{path} is not an IDX file of unsigned bytes")
    start = 4 + 4 * content[3]
    shape = tuple(int(size) for size in np.frombuffer(content[4:start], dtype=">u4"))
    if len(content) - start != np.prod(shape, dtype=np.int64):
        raise DataError(f"{path} holds {len(content) - start} bytes, its header says {shape}. Fetch it again")
    return np.frombuffer(bytearray(content), dtype=np.uint8, offset=start).reshape(shape)


def read_mnist(images: Path, labels: Path, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """A pair of IDX files: images uint8 [n, 1, h, w], labels int64 [n]. Raises DataError."""
    pixels, targets = read_idx(images), read_idx(labels)
    if pixels.ndim != 3:
        raise DataError(f"{images} must hold images [n, h, w], its header says {pixels.shape}")
    return pixels[:, None], _checked_labels(labels, targets, len(pixels), classes)


def _checked_labels(path: Path, labels: Any, n: int, classes: int) -> np.ndarray:
    try:
        array = np.asarray(labels)
    except ValueError:
        array = np.empty(0, dtype=object)
    if array.shape != (n,) or array.dtype.kind not in "ui":
        raise DataError(f"{path} must hold one label for each of {n} images")
    if n and not (array.min() >= 0 and array.max() < classes):
        raise DataError(f"{path} must hold labels from 0 to {classes - 1}, got {array.min()} to {array.max()}")
    return array.astype(np.int64)
