"""What a Point is estimated to lose: curves of single knobs that add up, and pairs of knobs of which one makes the
other dearer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Pair:
    """Two knobs by their places, and how much dearer the second is while the first is below its highest level."""

    first: int
    second: int
    factor: float


@dataclass(frozen=True)
class Losses:
    """The loss of any levels of some knobs. Levels are told by their places among those of the knob, from the lowest.

    The loss is the sum over knobs of their curves, that of the second of each pair times its factor while the first is
    below its highest level. It never rises with a level.
    """

    curves: Sequence[np.ndarray]
    """n_knobs times [n_levels], never rising."""
    pairs: Sequence[Pair] = ()

    def weighted(self, weights: np.ndarray) -> Losses:
        """The same with each knob's losses times its weight, [n_knobs] >= 0."""
        return Losses([weight * curve for weight, curve in zip(weights, self.curves, strict=True)], self.pairs)

    def each(self, indices: np.ndarray) -> np.ndarray:
        """What is lost by each knob: [n_knobs], for the places of their levels, [n_knobs]."""
        lost = np.array([curve[i] for curve, i in zip(self.curves, indices, strict=True)], dtype=np.float64)
        for pair in self.pairs:
            if self._below(pair, int(indices[pair.first])):
                lost[pair.second] *= pair.factor
        return lost

    def total(self, indices: np.ndarray) -> float:
        """The sum of what is lost."""
        return float(sum(self.each(indices)))

    def rise(self, indices: np.ndarray, t: int, by: int) -> float:
        """What is lost more with knob `t` moved `by` so many places."""
        i = int(indices[t])
        rise = float(self.curves[t][i + by] - self.curves[t][i])
        pair = self._paired.get(t)
        if pair is None:
            return rise
        if t == pair.second:
            return rise * (pair.factor if self._below(pair, int(indices[pair.first])) else 1.0)
        more = float((pair.factor - 1) * self.curves[pair.second][indices[pair.second]])
        return rise + more * (self._below(pair, i + by) - self._below(pair, i))

    def of_options(self, knobs: Sequence[int]) -> np.ndarray:
        """What is lost at all levels of one knob, [n_levels], or of the two of a pair: [n_levels of both], flat."""
        if len(knobs) == 1:
            return self.curves[knobs[0]]
        pair = self._paired[knobs[0]]
        one, other = self.curves[pair.first], self.curves[pair.second]
        factors = np.where(np.arange(len(one)) < len(one) - 1, pair.factor, 1.0)
        both: np.ndarray = one[:, None] + factors[:, None] * other
        return both.ravel()

    def _below(self, pair: Pair, place: int) -> bool:
        return place < len(self.curves[pair.first]) - 1

    @cached_property
    def _paired(self) -> Mapping[int, Pair]:
        return {t: pair for pair in self.pairs for t in (pair.first, pair.second)}
