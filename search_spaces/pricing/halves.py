"""What a layer that may become two costs, and the rank at which both take what the layer takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Halves:
    """How a layer of [made, read, *kernel] may become two: its rank, and what of its taps and positions each has."""

    top: float
    """The largest share of the break-even rank."""
    first: float
    """Taps of the first factor, which reads what the layer reads."""
    second: float
    """Taps of the second."""
    spread: float
    """At how many positions the first is for one of the layer, at least 1."""

    def most(self, made: int, read: int, taps: int) -> int:
        """The largest rank."""
        one = cost_between(read, made, self.first, self.second, self.spread)
        return max(1, int(self.top * break_even(made * read * taps, one) + 1e-9))


def cost_between(read: Any, made: Any, first: Any, second: Any, spread: Any) -> Any:
    """What each channel between two factors costs, in weights at each position of the layer: numbers or arrays."""
    return read * first * spread + made * second


def break_even(weights: Any, one: Any) -> Any:
    """The rank, as a fraction, at which factors take what a layer of so many `weights` takes; `one`: `cost_between`."""
    return weights / np.maximum(one, 1)
