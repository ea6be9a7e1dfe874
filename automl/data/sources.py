"""The data sets by name: their files, where they lie, how they are read, normalised and augmented."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from automl.data.download import Download, fetch
from automl.data.order import stratified_order
from automl.data.readers import read_cifar, read_mnist
from automl.errors import DataError
from automl.util.names import nearest

if TYPE_CHECKING:
    from automl.data.images import ImageSet
    from automl.zoo import Preprocessing

Split = Literal["train", "test"]
OWN = ("folder", "arrays", "table")
"""The names of data that are the user's own: `automl.data.own_images` and `automl.data.own_rows` read them."""
Arrays = tuple[np.ndarray, np.ndarray]
"""Images uint8 [n, c, h, w], labels int64 [n]."""


@dataclass(frozen=True)
class Source:
    """One data set."""

    name: str
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    shift: int
    flip: bool
    read: Callable[[Mapping[str, Path], Split], Arrays]
    """Reads one split from the located files (name -> path)."""
    folder: str = ""
    """The published folder of the files, below a data root."""
    files: tuple[str, ...] = ()
    """Every file of the set; none for a set that comes with a library."""
    downloads: tuple[Download, ...] = field(default=(), repr=False)
    has_test: bool = True
    """Whether images are held out for the end."""
    size: tuple[int, int] | None = None
    """Height and width that images are brought to; None: they stay as they are published."""

    def locate(self, root: str | None) -> Mapping[str, Path]:
        """File name -> path, below `root` if it is given, else in the cache, where missing files are downloaded.

        Below a root the files may lie in the published folder or directly, plain or (IDX) gzipped. Raises
        DataError that names what is missing.
        """
        if not self.files:
            return {}
        base = Path(root).expanduser() if root is not None else _cache()
        if root is not None and not base.is_dir():
            raise DataError(f"no data root at {base}: name an existing folder that has {self.folder}")
        places = (base / self.folder, base)
        for place in places:
            found = {name: path for name in self.files if (path := _find(place / name))}
            if len(found) == len(self.files):
                return found
        if root is None:
            archives = any(download.members for download in self.downloads)
            fetch(self.downloads, base if archives else base / self.folder)
            return {name: path for name in self.files if (path := _find(base / self.folder / name))}
        place = max(places, key=lambda place: sum(_find(place / name) is not None for name in self.files))
        missing = [name for name in self.files if not _find(place / name)]
        raise DataError(f"data root {base} lacks files of {self.name}: place {', '.join(missing)} in {place}")

    def image_set(self, files: Mapping[str, Path], split: Split) -> ImageSet:
        """One split, read whole from the located files."""
        import torch

        from automl.data.images import ImageSet

        images, labels = self.read(files, split)
        return ImageSet(
            torch.from_numpy(images),
            torch.from_numpy(labels),
            self.mean,
            self.std,
            self.shift,
            self.flip,
            size=self.size,
        )

    def prepared(self, wanted: Preprocessing) -> Source:
        """The same images with another mean, standard deviation and size, as far as `wanted` has them.

        Raises DataError if they are for another number of channels.
        """
        mean, std = wanted.mean or self.mean, wanted.std or self.std
        if len(mean) != len(self.mean):
            raise DataError(
                f"the model's preprocessing is for images of {len(mean)} channels, those of {self.name} have "
                f"{len(self.mean)}: leave `preprocessing: model` out"
            )
        return replace(self, mean=mean, std=std, size=wanted.size)


def names() -> list[str]:
    """The names that `load` knows."""
    return [*_SOURCES, *OWN]


def source(name: str, own: Sequence[str] = ()) -> Source:
    """The published data set of this name; DataError, offering the nearest, or one of `own`, if there is none."""
    if name not in _SOURCES:
        raise DataError(f"unknown data set {name!r}{nearest(name, (*_SOURCES, *own))}")
    return _SOURCES[name]


def _cache() -> Path:
    import pooch

    return Path(pooch.os_cache("automl-compress"))


def _find(path: Path) -> Path | None:
    """`path` or its gzipped form, whichever is there."""
    return next((p for p in (path, path.with_name(path.name + ".gz")) if p.is_file()), None)


def _read_cifar10(files: Mapping[str, Path], split: Split) -> Arrays:
    wanted = [f"data_batch_{i}" for i in range(1, 6)] if split == "train" else ["test_batch"]
    parts = [read_cifar(files[name], b"labels", 10) for name in wanted]
    return np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])


def _read_cifar100(files: Mapping[str, Path], split: Split) -> Arrays:
    return read_cifar(files[split], b"fine_labels", 100)


def _read_idx_pair(files: Mapping[str, Path], split: Split) -> Arrays:
    prefix = "train" if split == "train" else "t10k"
    return read_mnist(files[f"{prefix}-images-idx3-ubyte"], files[f"{prefix}-labels-idx1-ubyte"], 10)


def _read_digits(files: Mapping[str, Path], split: Split) -> Arrays:
    """scikit-learn's 1,797 digits, 1,297 to train on and 500 to test on; 17 grey levels spread over 0 to 255."""
    images, labels = _digits()
    order = stratified_order(labels, seed=0)
    part = order[:1297] if split == "train" else order[1297:]
    return images[part], labels[part].astype(np.int64)


@cache
def _digits() -> Arrays:
    """All of them, read once: from scikit-learn's file, as importing the package takes a second in every process."""
    found = find_spec("sklearn")
    path = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz" if found and found.origin else None
    if path is not None and path.is_file():
        rows = np.loadtxt(path, delimiter=",")
        pixels, labels = rows[:, :-1], rows[:, -1].astype(np.int64)
    else:  # a version that has it elsewhere
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
    return np.rint(pixels.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8), labels


_CIFAR10_FILES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
_CIFAR100_FILES = ("train", "test")
_IDX_FILES = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))


def _archive(url: str, md5: str, folder: str, files: tuple[str, ...]) -> tuple[Download, ...]:
    return (Download(url, md5, tuple(f"{folder}/{name}" for name in files)),)


def _idx_downloads(address: str, *sums: str) -> tuple[Download, ...]:
    return tuple(Download(f"{address}/{name}.gz", md5) for name, md5 in zip(_IDX_FILES, sums, strict=True))


_ALL = (
    Source(
        name="cifar10",
        classes=10,
        # ImageNet's statistics, with which the widely used CIFAR-10 ResNets were trained
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        shift=4,
        flip=True,
        read=_read_cifar10,
        folder="cifar-10-batches-py",
        files=_CIFAR10_FILES,
        downloads=_archive(
            "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
            "c58f30108f718f92721af3b95e74349a",
            "cifar-10-batches-py",
            _CIFAR10_FILES,
        ),
    ),
    Source(
        name="cifar100",
        classes=100,
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        shift=4,
        flip=True,
        read=_read_cifar100,
        folder="cifar-100-python",
        files=_CIFAR100_FILES,
        downloads=_archive(
            "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
            "eb9058c3a382ffc7106e4002c42a8d85",
            "cifar-100-python",
            _CIFAR100_FILES,
        ),
    ),
    Source(
        name="mnist",
        classes=10,
        mean=(0.1307,),
        std=(0.3081,),
        shift=2,
        flip=False,
        read=_read_idx_pair,
        folder="MNIST/raw",
        files=_IDX_FILES,
        downloads=_idx_downloads(
            "https://ossci-datasets.s3.amazonaws.com/mnist",
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
    ),
    Source(
        name="fashion_mnist",
        classes=10,
        mean=(0.2860,),
        std=(0.3530,),
        shift=4,
        flip=True,
        read=_read_idx_pair,
        folder="FashionMNIST/raw",
        files=_IDX_FILES,
        downloads=_idx_downloads(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
    ),
    Source(name="digits", classes=10, mean=(0.3055,), std=(0.3762,), shift=1, flip=False, read=_read_digits),
)
_SOURCES = {each.name: each for each in _ALL}
