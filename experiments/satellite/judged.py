"""How good masks of buildings are: the mean intersection over union, and how many buildings are found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

FOUND = 0.5
"""A building counts as found where the overlap with what is predicted is at least this part of either (SpaceNet)."""


@dataclass(frozen=True)
class Judged:
    """Sums over blocks, of which figures are made."""

    shared: tuple[int, int] = (0, 0)
    """Pixels of ground and of buildings that prediction and truth share."""
    either: tuple[int, int] = (0, 0)
    """Pixels that one of them has."""
    found: int = 0
    missed: int = 0
    wrong: int = 0

    def __add__(self, other: Judged) -> Judged:
        shared = (self.shared[0] + other.shared[0], self.shared[1] + other.shared[1])
        either = (self.either[0] + other.either[0], self.either[1] + other.either[1])
        counts = (self.found + other.found, self.missed + other.missed, self.wrong + other.wrong)
        return Judged(shared, either, *counts)

    @property
    def miou(self) -> float:
        """The mean over ground and buildings of the intersection over union."""
        return float(np.mean([a / b for a, b in zip(self.shared, self.either, strict=True) if b]))

    @property
    def f1(self) -> float:
        """Of buildings, 2 found / (2 found + missed + wrong)."""
        return 2 * self.found / max(1, 2 * self.found + self.missed + self.wrong)


def judged(mask: np.ndarray, buildings: np.ndarray, smallest: int = 12) -> Judged:
    """A mask, [h, w] bool, against the numbers of buildings, [h, w]; specks below `smallest` pixels are dropped."""
    truth = buildings > 0
    both, one = int((mask & truth).sum()), int((mask | truth).sum())
    shared = (int(mask.size - one), both)
    parts, count = ndimage.label(mask)
    sizes = np.bincount(parts.reshape(-1), minlength=count + 1)
    wanted = np.bincount(buildings.reshape(-1))
    width = len(wanted)
    places = parts.reshape(-1).astype(np.int64) * width + buildings.reshape(-1)
    pairs = np.bincount(places, minlength=(count + 1) * width)
    overlap = pairs.reshape(count + 1, width)[1:, 1:]
    union = sizes[1:, None] + wanted[None, 1:] - overlap
    found = int((overlap / np.maximum(union, 1) >= FOUND).sum())  # at most one each, above a half
    there = int((wanted[1:] > 0).sum())
    told = int((sizes[1:] >= smallest).sum())
    return Judged(shared, (mask.size - both, one), found, there - found, max(0, told - found))
