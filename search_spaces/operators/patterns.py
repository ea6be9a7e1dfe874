"""Patterns of zeros: in which places of a layer's weights those that stay may lie, and how many that can be.

Nothing here loads torch, so that study files can be checked at once.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from search_spaces.errors import SpaceError

STEPS = 64
"""Levels of a knob, evenly spaced from the fewest weights to all. With half as many, one step of the largest tensor of
a small network was 5 % of its budget, and what was meant to be uniform was not: 89 % accuracy instead of 77."""


@dataclass(frozen=True)
class Pattern:
    """Where the weights that stay may lie in a layer's matrix, [out, features].

    Features run over kernel positions, and over input channels at each: inputs that are neighbours in a pattern lie
    side by side in memory where channels come last.
    """

    most: int = 1
    of: int = 1
    """At most `most` of every `of` consecutive features of a row stay (N:M sparsity; Mishra et al. 2021, "Accelerating
    sparse deep neural networks", arXiv 2104.08378, has 2:4). Equal: as many as there are."""
    rows: int = 1
    columns: int = 1
    """Blocks of this shape stay or go as one (of one row: the 4-block of Frantar & Alistarh 2022, "Optimal Brain
    Compression", arXiv 2208.11580, section 4)."""

    @property
    def unit(self) -> int:
        """How many weights stay or go together."""
        return self.rows * self.columns

    @property
    def grouped(self) -> bool:
        """Whether so many of so many stay."""
        return self.most < self.of

    @property
    def free(self) -> bool:
        """Whether any weight may stay."""
        return self == UNSTRUCTURED

    def fills(self, out: int, features: int) -> bool:
        """Whether groups or blocks fill a matrix of `out` rows, those of one group of a grouped convolution."""
        return features % self.of == 0 and out % self.rows == 0 and features % self.columns == 0

    def levels(self, size: int, min_keep: float) -> tuple[int, ...]:
        """How many of the weights of a layer that it fills may stay, ascending.

        A share that the pattern names is the only one beside all; else there are `STEPS`, from `min_keep` on.
        """
        if self.grouped:
            return size * self.most // self.of, size
        units = size // self.unit
        lowest = max(1, math.ceil(min_keep * units - 1e-9))
        return tuple((np.unique(np.linspace(lowest, units, STEPS).round().astype(int)) * self.unit).tolist())

    def counts(self, share: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """How many of `weights` stay where the level is this share of the whole tensor, in (0, 1]: in their shape.

        Whole units, rounded down; all where the share is 1. Never falls when either rises, and two layers together
        keep at most what one of as many weights would.
        """
        units = np.floor(share * weights / self.unit + 1e-9)
        counts: np.ndarray = np.where(share < 1, units * self.unit, weights)
        return counts


UNSTRUCTURED = Pattern()
_NAMED = "expected unstructured, N:M such as 2:4, or blocks of ROWSxCOLUMNS such as 1x4 and 4x4"


def pattern_of(name: str) -> Pattern:
    """The pattern that a study file calls `name`; a `SpaceError` if there is none such."""
    if name == "unstructured":
        return UNSTRUCTURED
    found = re.fullmatch(r"([1-9]\d{0,2})([:x])([1-9]\d{0,2})", name)
    if not found:
        raise SpaceError(f"pattern cannot be {name!r}: {_NAMED}")
    first, second = int(found[1]), int(found[3])
    if found[2] == "x":
        return Pattern(rows=first, columns=second)
    if first >= second:
        raise SpaceError(f"pattern {name!r} keeps {first} of every {second} weights, which removes none: {_NAMED}")
    return Pattern(most=first, of=second)
