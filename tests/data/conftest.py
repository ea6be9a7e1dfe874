"""Small files in the published formats: what the readers, the roots and the splits are tested on."""

from __future__ import annotations

import gzip
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


def write_idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    content = header + array.astype(np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_mnist(folder: Path, suffix: str = "", train: int = 60, test: int = 20) -> None:
    rng = np.random.default_rng(0)
    for part, n in (("train", train), ("t10k", test)):
        write_idx(folder / f"{part}-images-idx3-ubyte{suffix}", rng.integers(0, 256, (n, 28, 28)))
        write_idx(folder / f"{part}-labels-idx1-ubyte{suffix}", np.arange(n) % 10)


def write_cifar_batch(path: Path, labels: np.ndarray, key: bytes = b"labels", seed: int = 0) -> np.ndarray:
    data = np.random.default_rng(seed).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps({b"batch_label": b"x", key: labels.tolist(), b"data": data}, protocol=4))
    return data


def write_cifar10(folder: Path, per_batch: int = 20) -> None:
    for i in range(1, 6):
        write_cifar_batch(folder / f"data_batch_{i}", np.arange(per_batch) % 10, seed=i)
    write_cifar_batch(folder / "test_batch", np.arange(30) % 10, seed=9)


def write_cifar100(folder: Path) -> None:
    write_cifar_batch(folder / "train", np.arange(200) % 100, b"fine_labels", seed=1)
    write_cifar_batch(folder / "test", np.arange(100) % 100, b"fine_labels", seed=2)


@pytest.fixture
def data_root(tmp_path) -> Path:
    """A data root with all four file-based sets, a few images each."""
    write_cifar10(tmp_path / "cifar-10-batches-py")
    write_cifar100(tmp_path / "cifar-100-python")
    write_mnist(tmp_path / "MNIST" / "raw")
    write_mnist(tmp_path / "FashionMNIST" / "raw", suffix=".gz")
    return tmp_path


@pytest.fixture
def writers() -> dict[str, Callable[..., object]]:
    return {"idx": write_idx, "mnist": write_mnist, "cifar_batch": write_cifar_batch, "cifar10": write_cifar10}
