"""What a Point is estimated to lose: curves of single knobs that add up, and pairs of knobs of which one makes the
other dearer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from agents.errors import AgentError
from agents.types import ErrorCurves
from search_spaces import Knob


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

    @classmethod
    def of(cls, knobs: Sequence[Knob], curves: ErrorCurves) -> Losses:
        """Those that error curves tell of, of these knobs in their order. `AgentError` if pairs are of other knobs."""
        places = {knob.name: t for t, knob in enumerate(knobs)}
        named = [name for pair in curves.dearer for name in pair]
        if wrong := [name for name in named if name not in places or named.count(name) > 1]:
            expected = "pairs of knobs with error curves, each knob in one of them"
            raise AgentError(f"dearer names {expected}, got {wrong[0]!r}")
        pairs = [Pair(places[one], places[other], factor) for (one, other), factor in curves.dearer.items()]
        return cls([curves[knob.name] for knob in knobs], pairs)

    def weighted(self, weights: np.ndarray) -> Losses:
        """The same with each knob's losses times its weight, [n_knobs] >= 0."""
        return Losses([weight * curve for weight, curve in zip(weights, self.curves, strict=True)], self.pairs)

    def each(self, indices: np.ndarray) -> np.ndarray:
        """What is lost by each knob: [n_knobs], for the places of their levels, [n_knobs]."""
        return np.array([self._lost(t, indices) for t in range(len(self.curves))])

    def total(self, indices: np.ndarray) -> float:
        """The sum of what is lost."""
        return float(sum(self.each(indices)))

    def rise(self, indices: np.ndarray, t: int, by: int) -> float:
        """What is lost more with knob `t` moved `by` so many places."""
        moved = indices.copy()
        moved[t] += by
        touched = (t, self._second[t]) if t in self._second else (t,)
        return sum(self._lost(u, moved) - self._lost(u, indices) for u in touched)

    def of_options(self, knobs: Sequence[int]) -> np.ndarray:
        """What is lost at all levels of one knob, [n_levels], or of the two of a pair: [n_levels of both], flat."""
        if len(knobs) == 1:
            return self.curves[knobs[0]]
        first, second = knobs
        factors = np.full(len(self.curves[first]), self._dearer[second].factor)
        factors[-1] = 1.0
        both: np.ndarray = self.curves[first][:, None] + factors[:, None] * self.curves[second]
        return both.ravel()

    def _lost(self, t: int, indices: np.ndarray) -> float:
        """What is lost by one knob, where all stand at `indices`."""
        lost, pair = float(self.curves[t][indices[t]]), self._dearer.get(t)
        if pair is None or indices[pair.first] == len(self.curves[pair.first]) - 1:
            return lost
        return lost * pair.factor

    @cached_property
    def _dearer(self) -> Mapping[int, Pair]:
        """The pairs by their second."""
        return {pair.second: pair for pair in self.pairs}

    @cached_property
    def _second(self) -> Mapping[int, int]:
        """The second of a pair by its first."""
        return {pair.first: pair.second for pair in self.pairs}
