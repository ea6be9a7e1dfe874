"""Images of the user's own: a folder with a folder of images for each class, or arrays in one .npz file.

They are read whole. Mean and standard deviation are those of the training images. They may be moved a little in
training and are not mirrored, since letters and road signs must not be.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from automl.data.sources import OWN, Arrays, Source, Split, source
from automl.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

FOLDER, ARRAYS, TABLE = OWN
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
EIGHTH = 8
"""Training images are moved by up to the side divided by so much, in pixels."""
NAMES = {"train": (("x_train", "y_train"), ("x", "y"), ("images", "labels")), "test": (("x_test", "y_test"),)}
"""What samples and their targets are called in a file of arrays."""


def source_of(name: str, root: str | None, image_size: int | None = None) -> Source:
    """The data set of this name: the user's own in `root`, or a published one. Errors: `DataError`.

    `image_size`: the side in pixels that images of a folder are brought to; None: they must be of one size.
    """
    if name not in (FOLDER, ARRAYS):
        return source(name, OWN)
    if root is None:
        what = "the folder that has a folder of images for each class" if name == FOLDER else "the .npz file"
        raise DataError(f"data {name!r} need a root: {what}")
    path = Path(root).expanduser()
    return _of_folder(path, image_size) if name == FOLDER else _of_arrays(path)


def _of_folder(root: Path, image_size: int | None) -> Source:
    if not root.is_dir():
        raise DataError(f"no folder at {root}: name one that has a folder of images for each class")
    there = {path.name for path in root.iterdir() if path.is_dir()}
    split = "train" in there
    folder = root / "train" if split else root
    classes = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")))
    if len(classes) < 2:
        raise DataError(
            f"{folder} must have a folder of images for each class, two or more, got {', '.join(classes) or 'none'}. "
            f"With images held out for a test the folders are train/CLASS and test/CLASS"
        )
    train = _read_folder(folder, classes, image_size)
    test = partial(_read_folder, root / "test", classes, train[0].shape[2]) if split and "test" in there else None
    return _source(FOLDER, train, test, len(classes))


def _read_folder(folder: Path, classes: tuple[str, ...], image_size: int | None) -> Arrays:
    """All images below `folder`, RGB unless all are grey, with the number of their class."""
    from PIL import Image as Opened
    from PIL import UnidentifiedImageError

    paths = [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((folder / name).glob("*"))
        if path.suffix.lower() in ENDINGS
    ]
    if not paths:
        raise DataError(f"{folder} has no image: expected files {', '.join(ENDINGS)} in its folders")
    found: list[Image] = []
    for path, _ in paths:
        try:
            with Opened.open(path) as image:
                found.append(image.convert("L" if image.mode in ("1", "L") else "RGB"))
        except (OSError, UnidentifiedImageError) as error:
            raise DataError(f"{path} cannot be read as an image: {error}. Repair it or take it out") from error
    mode = "L" if all(image.mode == "L" for image in found) else "RGB"
    if image_size is None and len({image.size for image in found}) > 1:
        sides = sorted(min(image.size) for image in found)
        raise DataError(
            f"the images in {folder} have several sizes, and networks are made for one: set image_size, the side in "
            f"pixels that all are brought to; half of them have a side of {sides[len(sides) // 2]} or more"
        )
    pixels = [np.asarray(_brought(image.convert(mode), image_size)) for image in found]
    images = np.stack(pixels)
    images = images[:, None] if mode == "L" else images.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(images), np.array([label for _, label in paths], dtype=np.int64)


def _brought(image: Image, side: int | None) -> Image:
    """The middle square of an image, of this side; as it is if None, or if it is that already."""
    from PIL import ImageOps

    return image if side is None or image.size == (side, side) else ImageOps.fit(image, (side, side))


def _of_arrays(path: Path) -> Source:
    arrays = open_arrays(path)
    require_pair(path, arrays)
    train = _pair(path, arrays, "train")
    assert train is not None
    test = _pair(path, arrays, "test")
    if test is not None and test[0].shape[1:] != train[0].shape[1:]:
        raise DataError(
            f"{path}: test images of {test[0].shape[1:]} are not like those of training, {train[0].shape[1:]}"
        )
    classes = 1 + max(int(labels.max(initial=0)) for _, labels in (train, test or train))
    return _source(ARRAYS, train, None if test is None else lambda: test, classes)


def open_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name. `DataError`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read as a file of arrays: {error}. Write one with numpy.savez") from error


def require_pair(path: Path, arrays: Mapping[str, np.ndarray]) -> tuple[str, str]:
    """What samples to learn from and their targets are called in a file of arrays; a `DataError` if there are none."""
    names = next((pair for pair in NAMES["train"] if set(pair) <= arrays.keys()), None)
    if names is None:
        known = " or ".join(" and ".join(pair) for pair in NAMES["train"])
        raise DataError(f"{path} must hold {known}, got {', '.join(arrays) or 'nothing'}")
    return names


def _pair(path: Path, arrays: Mapping[str, np.ndarray], split: Split) -> Arrays | None:
    """The images [n, c, h, w] and labels of a split, if the file has it."""
    names = next((pair for pair in NAMES[split] if set(pair) <= arrays.keys()), None)
    if names is None:
        return None
    images, labels = arrays[names[0]], arrays[names[1]]
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise DataError(
            f"{path}: {names[0]} must be uint8 from 0 to 255, [n, h, w], [n, h, w, c] or [n, c, h, w], got "
            f"{images.dtype} {list(images.shape)}"
        )
    if labels.shape != (len(images),) or labels.dtype.kind not in "ui" or (len(labels) and labels.min() < 0):
        raise DataError(f"{path}: {names[1]} must be one whole number from 0 for each of {len(images)} images")
    if images.ndim == 3:
        images = images[:, None]
    elif images.shape[1] not in (1, 3, 4) and images.shape[3] in (1, 3, 4):
        images = images.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(images), labels.astype(np.int64)


def _source(name: str, train: Arrays, test: Callable[[], Arrays] | None, classes: int) -> Source:
    """A data set of these images; `test` reads those held out for the end."""
    pixels = train[0].astype(np.float32) / 255
    axes = (0, 2, 3)
    shift = train[0].shape[2] // EIGHTH

    def read(files: Mapping[str, Path], split: Split) -> Arrays:
        if split == "test":
            assert test is not None
            return test()
        return train

    mean, std = pixels.mean(axis=axes), np.maximum(pixels.std(axis=axes), 1e-3)
    return Source(
        name,
        classes,
        tuple(round(float(m), 4) for m in mean),
        tuple(round(float(s), 4) for s in std),
        shift,
        False,
        read,
        has_test=test is not None,
    )
