"""A layer as systems of equations: the second moments of each group of a convolution, and each slice of a wide one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from automl.fit.moments import moments_of, shift_of

WIDEST = 768
"""Rows of more features are cut into slices, which are solved as if the inputs of one told nothing of another's: the
work grows with the square of a slice. 512 rows of 4,608 features would take hours in one piece."""


class Systems:
    """The second moments of what a layer multiplies, and its weight in parts that belong to them.

    Parts are those of the first group, slice by slice, then of the second: [out / groups, features of a slice] each.
    """

    def __init__(self, matrix: Tensor, places: Tensor, *, intercept: bool, step: int) -> None:
        """`matrix`: augmented sums, [groups, features + 1, features + 1]; `places`: where each feature of the parts
        lies in the layer's own order, [features]; `step`: slices hold a multiple of so many; `intercept`: as of
        `moments_of`."""
        self._places = places
        self._groups, features = len(matrix), len(places)
        slices = math.ceil(features / WIDEST)
        self._width = math.ceil(features / slices / step) * step
        self._slices = math.ceil(features / self._width)
        self._means, self.moments = [], []
        for group in matrix:
            second, mean = moments_of(group, intercept=intercept)
            self._means.append(mean)
            for at in places.split(self._width):
                self.moments.append(second[at[:, None], at])

    def parts(self, table: Tensor) -> list[Tensor]:
        """The parts of what is shaped as the layer's weight."""
        rows = table.flatten(1)[:, self._places].chunk(self._groups)
        return [part for group in rows for part in group.split(self._width, dim=1)]

    def joined(self, parts: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
        """The inverse of `parts`."""
        groups = [torch.cat(list(parts[i : i + self._slices]), 1) for i in range(0, len(parts), self._slices)]
        rows = torch.cat(groups)
        table = torch.empty_like(rows)
        table[:, self._places] = rows
        return table.view(*shape)

    def shift(self, change: Tensor) -> Tensor:
        """What a bias has to gain so that a weight changed by `change` leaves the mean output: [out], float64."""
        parts = change.flatten(1).chunk(self._groups)
        return torch.cat([shift_of(part, mean) for part, mean in zip(parts, self._means, strict=True)])
