"""What a search may see of a data set, and when."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from automl.data.images import ImageSet
from automl.data.order import stratified_order
from automl.data.own_images import source_of
from automl.data.sources import Source
from automl.errors import DataError
from automl.tasks.batches import Batch

if TYPE_CHECKING:
    from automl.zoo import Preprocessing

SIXTH = 6
MOST_VALIDATION = 5000
"""How many images are held out if nobody says, at most; their standard error is below half a point."""


@dataclass(frozen=True)
class Splits:
    """A data set divided for a search. Only `test` touches the test images."""

    calibration: list[Batch]
    """Training images on which statistics are gathered; none of them is in `validation`."""
    validation: list[Batch]
    """Training images held out, by which candidates are judged."""
    recalibration: Callable[[int], list[Batch]]
    """Seed -> the calibration images under training augmentation."""
    training: Callable[[int, int], Iterator[Batch]]
    """Seed, batch size -> one epoch of `train`, in random order and under training augmentation."""
    test: Callable[[], list[Batch]] | None
    """Reads the test images; None: there are none."""
    train: ImageSet
    """All training images that are not in `validation`."""
    classes: int


def load(
    name: str,
    *,
    root: str | None = None,
    validation_size: int | None,
    calibration_size: int,
    batch_size: int = 250,
    split_seed: int = 0,
    augment: bool = True,
    cutout: int = 0,
    preprocessing: Preprocessing | None = None,
    image_size: int | None = None,
) -> Splits:
    """The data set `name`, its training images divided into validation, calibration and the rest.

    The division is stratified by class and depends on `split_seed` alone: with the same seed, a smaller validation
    subset is part of a larger one. `root` is the folder that holds the data set's published files, in their
    published folder or directly; without it they are read from the user's cache and downloaded into it if need
    be. `augment=False` makes `recalibration` and `training` return images as they are; `cutout` is the side of the
    square that `training` blanks in each, in pixels. `preprocessing` is how a network of a hub has its inputs made;
    None: as is usual for the data. `validation_size` None is a sixth of the training images, at most 5000.
    `image_size` is the side that images of a folder are brought to. Raises DataError for unknown names, missing or
    damaged files, and sizes that do not fit.
    """
    sizes = {
        "validation_size": 1 if validation_size is None else validation_size,
        "calibration_size": calibration_size,
        "batch_size": batch_size,
    }
    for option, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise DataError(f"{option} must be a whole number of at least 1, got {size!r}")
    chosen = source_of(name, root, image_size)
    if preprocessing is not None:
        chosen = chosen.prepared(preprocessing)
    files = chosen.locate(root)
    images = chosen.image_set(files, "train")
    if validation_size is None:
        validation_size = usual_validation(len(images))
    if validation_size + calibration_size > len(images):
        raise DataError(
            f"validation_size {validation_size} and calibration_size {calibration_size} together exceed the "
            f"{len(images)} training images of {name}: lower one of them"
        )
    order = torch.from_numpy(stratified_order(images.labels.numpy(), split_seed))
    calibration = images.subset(order[validation_size : validation_size + calibration_size])
    train = images.subset(order[validation_size:])
    return Splits(
        calibration=calibration.batches(batch_size),
        validation=images.batches(batch_size, order[:validation_size]),
        recalibration=partial(_recalibration, calibration, batch_size, augment),
        training=partial(_training, replace(train, cutout=cutout) if augment else replace(train, shift=0, flip=False)),
        test=partial(_test, chosen, files, batch_size) if chosen.has_test else None,
        train=train,
        classes=chosen.classes,
    )


def usual_validation(samples: int) -> int:
    """How many of so many samples are held out to judge networks by if nobody says."""
    return max(1, min(samples // SIXTH, MOST_VALIDATION))


def _recalibration(calibration: ImageSet, batch_size: int, augment: bool, seed: int) -> list[Batch]:
    if not augment:
        return calibration.batches(batch_size)
    return list(calibration.augmented(batch_size, generator=torch.Generator().manual_seed(seed)))


def _training(train: ImageSet, seed: int, batch_size: int) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(seed)
    return train.augmented(batch_size, torch.randperm(len(train), generator=generator), generator)


def _test(chosen: Source, files: Mapping[str, Path], batch_size: int) -> list[Batch]:
    return chosen.image_set(files, "test").batches(batch_size)
