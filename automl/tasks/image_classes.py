"""What images and their labels are, read off the data: all that a network that is made for them must know."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from automl.errors import DataError
from automl.tasks.batches import Batch

FEW = 20
"""Images of a class; with less of them nothing much is learnt of it."""
UNEVEN = 10
"""How many times as many images the largest class may have as the smallest before it is worth a word."""


@dataclass(frozen=True)
class ImageClasses:
    """Images of one size, each of one class."""

    channels: int
    size: tuple[int, int]
    """Height and width."""
    counts: tuple[int, ...]
    """How many images there are of each class, counted from class 0."""

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.counts)

    @classmethod
    def of(cls, images: Tensor, labels: Tensor, classes: int | None = None) -> ImageClasses:
        """Of some images [n, c, h, w] and all labels [m]; `classes` None: as many as the labels tell. `DataError`."""
        if images.ndim != 4 or not images.is_floating_point():
            raise DataError(
                f"networks are made for images, float tensors [n, channels, height, width], got inputs of shape "
                f"{list(images.shape)} and type {images.dtype}"
            )
        if labels.ndim != 1 or labels.is_floating_point() or (len(labels) and int(labels.min()) < 0):
            raise DataError(
                f"networks are made to tell classes, and need one label an image, whole numbers from 0, [n], got "
                f"targets of shape {list(labels.shape)} and type {labels.dtype}"
            )
        counts = torch.bincount(labels.long(), minlength=classes or 0)
        if len(counts) < 2:
            raise DataError("there is one class only, and nothing to tell apart: give images of two classes or more")
        return cls(images.shape[1], (images.shape[2], images.shape[3]), tuple(counts.tolist()))

    @classmethod
    def of_batches(cls, batches: Iterable[Batch]) -> ImageClasses:
        """The same of all batches of a split, which are read once. `DataError`."""
        images: Tensor | None = None
        labels = []
        for inputs, targets in batches:
            images = inputs[0][:1] if images is None else images
            if len(inputs) != 1:
                raise DataError(f"networks are made for images alone, got batches of {len(inputs)} inputs")
            labels.append(targets)
        if images is None:
            raise DataError("the training data must have at least one batch, got none. Is the iterable used up?")
        if len({target.ndim for target in labels}) > 1:
            raise DataError("all training batches must have one label an image, [n]")
        return cls.of(images, torch.cat(labels))

    @property
    def cautions(self) -> list[str]:
        """What somebody should know of the data before a network is made for them."""
        lines = []
        empty = [i for i, count in enumerate(self.counts) if not count]
        if empty:
            lines.append(f"no training image is of class {', '.join(map(str, empty[:5]))}: it will never be told")
        few = [i for i, count in enumerate(self.counts) if 0 < count < FEW]
        if few:
            lines.append(f"class {', '.join(map(str, few[:5]))} has fewer than {FEW} training images")
        least = min(count for count in self.counts if count)
        if max(self.counts) > UNEVEN * least:
            lines.append(
                f"classes are uneven: the largest has {max(self.counts)} training images, the smallest {least}, so "
                f"that the share of right answers says little of small ones"
            )
        return lines
