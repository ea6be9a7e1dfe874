"""Labelled images in memory, and the batches made of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from automl.tasks.batches import Batch


@dataclass(frozen=True)
class ImageSet:
    """Labelled images, how they are normalised and how they may be augmented."""

    images: Tensor
    """uint8 [n, c, h, w]"""
    labels: Tensor
    """int64 [n]"""
    mean: tuple[float, ...]
    """Mean of each channel, for pixels scaled to [0, 1]."""
    std: tuple[float, ...]
    """Standard deviation of each channel, for pixels scaled to [0, 1]."""
    shift: int = 0
    """How many pixels `augmented` may move an image in each direction."""
    flip: bool = False
    """Whether `augmented` may mirror an image left to right."""
    cutout: int = 0
    """Side, in pixels, of a square that `augmented` blanks in each image (DeVries & Taylor 2017, arXiv 1708.04552)."""
    size: tuple[int, int] | None = None
    """Height and width that each image is brought to when a batch is made of it; None: it stays as it is."""

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Sequence[int] | Tensor) -> ImageSet:
        """A copy of the images at `indices`, in that order."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        return replace(self, images=self.images[index], labels=self.labels[index])

    def batches(self, size: int, indices: Sequence[int] | Tensor | None = None) -> list[Batch]:
        """Batches of at most `size` normalised images, float32 [b, c, h, w], with their labels, int64 [b].

        The batches are as equal in size as can be, so that none is a small remainder with noisy statistics. h and w
        are `self.size`, where that is not None.
        """
        index = self._index(indices)
        return [self._batch(self.images[part], self.labels[part]) for part in parts(index, size)]

    def augmented(
        self, size: int, indices: Sequence[int] | Tensor | None = None, generator: torch.Generator | None = None
    ) -> Iterator[Batch]:
        """`batches` of images shifted at random (black comes in at the edges) and mirrored at random, one by one.

        For CIFAR this is the usual training augmentation (He et al. 2016, section 4.2): 4 pixels of padding, a
        random crop, a random flip; then a square blanked, if there is `cutout`. `generator` makes it reproducible.
        """
        for part in parts(self._index(indices), size):
            images = self.images[part]
            n, _, height, width = images.shape
            padded = F.pad(images, (self.shift,) * 4)
            corners = torch.randint(2 * self.shift + 1, (2, n), generator=generator)
            windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # [n, c, rows, columns, h, w], a view
            images = windows[torch.arange(n), :, corners[0], corners[1]]  # [n, c, h, w]
            if self.flip:
                mirrored = (torch.rand(n, generator=generator) < 0.5).nonzero()[:, 0]
                images[mirrored] = images[mirrored].flip(3)
            (pixels,), labels = self._batch(images, self.labels[part])
            if self.cutout:
                pixels.masked_fill_(self._squares(n, pixels.shape[2], pixels.shape[3], generator), 0)
            yield (pixels,), labels

    def _squares(self, n: int, height: int, width: int, generator: torch.Generator | None) -> Tensor:
        """Where a square of `cutout` pixels lies, its centre anywhere in the image: bool [n, 1, h, w]."""
        inside = []
        for size in (height, width):
            first = torch.randint(size, (n, 1), generator=generator) - self.cutout // 2
            place = torch.arange(size)
            inside.append((place >= first) & (place < first + self.cutout))
        return inside[0][:, None, :, None] & inside[1][:, None, None, :]

    def _index(self, indices: Sequence[int] | Tensor | None) -> Tensor:
        return torch.arange(len(self)) if indices is None else torch.as_tensor(indices, dtype=torch.int64)

    def _batch(self, images: Tensor, labels: Tensor) -> Batch:
        mean = torch.tensor(self.mean)[None, :, None, None]
        std = torch.tensor(self.std)[None, :, None, None]
        pixels = images.float().div_(255)
        if self.size is not None:
            pixels = F.interpolate(pixels, self.size, mode="bilinear", antialias=True)
        return (pixels.sub_(mean).div_(std),), labels


def parts(index: Tensor, size: int) -> Sequence[Tensor]:
    """`index` cut into the fewest parts of at most `size`, as equal as can be."""
    return torch.tensor_split(index, math.ceil(len(index) / size)) if len(index) else ()
