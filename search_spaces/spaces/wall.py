"""What every space of costed integer knobs shares: encoding, the budget's wall, projection onto a budget.

A budget is there to be used up, so with limits that do not bind the network stays whole. Without any limit nothing
is to be used up: every level is within the bounds, nothing is filled, and a projection is the nearest legal Point.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from search_spaces.errors import InfeasibleBudgetError, SpaceError
from search_spaces.types import Knob, Point


class CostedSpace(ABC):
    """A space whose costs are known before anything is built and never fall when a level rises.

    A subclass names its `knobs` and `metrics` and computes `cost_of_levels`; the rest follows. Where some knobs can
    make others inactive it says in `active` which; then the cost must not depend on the levels of inactive knobs.
    """

    knobs: tuple[Knob, ...]
    metrics: tuple[str, ...]

    @abstractmethod
    def features(self) -> np.ndarray:
        """What is known of each knob before the search, each column scaled to [0, 1]: [n_knobs, n_features]."""

    @abstractmethod
    def cost_of_levels(self, levels: np.ndarray, metric: str) -> float:
        """The cost of the network whose knobs, in order, stand at `levels`: [n_knobs]."""

    def costs_of_levels(self, levels: np.ndarray, metric: str) -> np.ndarray:
        """The costs of many networks: `levels` [n, n_knobs], result [n]."""
        return np.array([self.cost_of_levels(row, metric) for row in levels])

    def cost(self, point: Point, metric: str) -> float:
        """The predicted cost of the network built from `point`, in the metric's unit."""
        if metric not in self.metrics:
            raise SpaceError(f"unknown cost metric {metric!r}: this space predicts {', '.join(self.metrics)}")
        return self.cost_of_levels(self.levels(point), metric)

    def levels(self, point: Point) -> np.ndarray:
        """The levels of `point` in knob order: [n_knobs]."""
        if point.keys() != {knob.name for knob in self.knobs}:
            strange = sorted(point.keys() ^ {knob.name for knob in self.knobs})
            raise SpaceError(f"the point does not fit the space: knobs {strange[:3]} are missing or unknown")
        return np.array([point[knob.name] for knob in self.knobs], dtype=np.int64)

    def point(self, levels: Sequence[int]) -> Point:
        """The canonical Point with these levels, in knob order; an illegal level is a `SpaceError`."""
        if len(levels) != len(self.knobs):
            raise SpaceError(f"expected {len(self.knobs)} levels, one a knob, got {len(levels)}")
        for knob, level in zip(self.knobs, levels, strict=True):
            if level not in knob.levels:
                raise SpaceError(f"knob {knob.name!r} has no level {level}: legal are {knob.levels}")
        chosen = self.canonical(np.array(levels, dtype=np.int64)).tolist()
        return Point([(knob.name, level) for knob, level in zip(self.knobs, chosen, strict=True)])

    def active(self, levels: np.ndarray) -> np.ndarray:
        """Whether each knob makes a difference, the others standing at `levels` ([n_knobs]): [n_knobs] bool."""
        return np.ones(len(self.knobs), dtype=bool)

    def canonical(self, levels: np.ndarray) -> np.ndarray:
        """`levels` ([n_knobs]) with inactive knobs at their lowest level: one form for each network."""
        return np.where(self.active(levels), levels, self.lowest)

    def encode(self, point: Point) -> np.ndarray:
        """Keep fractions scaled to [0, 1]: [n_knobs]."""
        levels = self.levels(point).tolist()
        return np.array([knob.keep(level) for knob, level in zip(self.knobs, levels, strict=True)])

    def decode(self, x: np.ndarray) -> Point:
        """The nearest legal Point to keep fractions `x`: [n_knobs]."""
        return self.point([knob.nearest(float(keep)) for knob, keep in zip(self.knobs, x, strict=True)])

    def sequence(self, point: Point) -> np.ndarray:
        """A row for each knob, its features and the part of its highest level: float32, [n_rows, n_features + 1].

        A bit that stands at 0 has no row, nor has an inactive knob; if nothing has, there is one row of zeros.
        """
        levels = self.levels(point)
        there = self.active(levels) & ((levels > 0) | ~self._bits)
        rows = np.column_stack([self._static, levels / self.highest])[there]
        return (rows if len(rows) else np.zeros((1, self._static.shape[1] + 1))).astype(np.float32)

    @cached_property
    def _static(self) -> np.ndarray:
        """The features, computed once: [n_knobs, n_features]."""
        return self.features()

    @cached_property
    def _bits(self) -> np.ndarray:
        """Whether each knob is a bit: [n_knobs]."""
        return np.array([knob.is_bit for knob in self.knobs])

    @property
    def lowest(self) -> np.ndarray:
        """The smallest level of every knob: [n_knobs]."""
        return np.array([knob.levels[0] for knob in self.knobs], dtype=np.int64)

    @property
    def highest(self) -> np.ndarray:
        """The largest level of every knob: [n_knobs]."""
        return np.array([knob.levels[-1] for knob in self.knobs], dtype=np.int64)

    @property
    def original_levels(self) -> np.ndarray:
        """The levels at which the original is left unchanged: [n_knobs]."""
        return np.array([knob.original for knob in self.knobs], dtype=np.int64)

    @property
    def original_point(self) -> Point:
        """The Point that leaves the original unchanged."""
        return self.point(self.original_levels.tolist())

    def within(self, levels: np.ndarray, limits: Mapping[str, float]) -> bool:
        """Whether no limit is exceeded."""
        return all(self.cost_of_levels(levels, metric) <= limit for metric, limit in limits.items())

    def least_costs(self, limits: Mapping[str, float]) -> Mapping[str, float]:
        """Of each limited metric, what the smallest network costs: metric -> cost in its unit."""
        return {metric: self.cost_of_levels(self.lowest, metric) for metric in limits}

    def require_feasible(self, limits: Mapping[str, float]) -> None:
        """Raise `InfeasibleBudgetError`, saying what can be met, unless some network meets every limit."""
        for metric, limit in limits.items():
            if metric not in self.metrics:
                raise SpaceError(f"no budget on {metric!r}: this space predicts {', '.join(self.metrics)}")
            low = self.cost_of_levels(self.lowest, metric)
            if low > limit:
                full = self.cost_of_levels(self.highest, metric)
                raise InfeasibleBudgetError(
                    f"no network in the space has {metric} <= {shown(limit)}: the smallest has {shown(low)} "
                    f"({low / full:.1%} of {shown(full)}). Raise the budget, lower `min_keep` or `round_to`, "
                    f"or free what `automl inspect` lists as fixed"
                )

    def bounds(self, prefix: Sequence[int], limits: Mapping[str, float]) -> tuple[int, int]:
        """Lowest and highest level of the next knob from which the budget can still be met exactly.

        The two-sided form of the AMC action bound (He et al. 2018, Algorithm 1), on exact costs: above the
        highest, the smallest choice of everything later would exceed a limit; below the lowest, the largest
        choice of everything later would leave budget unused. Taking any level within the bounds at every knob
        ends within the limits, and below them by less than one step of a single knob.
        """
        t = len(prefix)
        legal = self.knobs[t].levels
        if not limits:
            return legal[0], legal[-1]

        def cost_over(level: int, rest: np.ndarray) -> bool:
            levels = rest.copy()
            levels[:t], levels[t] = prefix, level
            return not self.within(levels, limits)

        first_over = bisect_left(legal, True, key=lambda level: cost_over(level, self.lowest))
        high = max(first_over - 1, 0)
        # With everything later at its largest, the first level that exceeds a limit still allows the budget to be
        # used up; the level before it may use it up exactly.
        full_over = bisect_left(legal, True, key=lambda level: cost_over(level, self.highest))
        low = min(max(full_over - 1, 0) if t == len(self.knobs) - 1 else full_over, high)
        return legal[low], legal[high]

    def allowed(self, prefix: Sequence[int], limits: Mapping[str, float]) -> tuple[int, ...]:
        """The levels of the next knob from which the budget can still be met: all within the bounds."""
        low, high = self.bounds(prefix, limits)
        return tuple(level for level in self.knobs[len(prefix)].levels if low <= level <= high)

    def affordable(self, levels: np.ndarray, settled: np.ndarray, limits: Mapping[str, float]) -> bool:
        """Whether some network keeps the limits with the `settled` knobs ([n_knobs] bool) at `levels` ([n_knobs])."""
        return self.within(np.where(settled, levels, self.lowest), limits)

    def repaired(self, levels: Sequence[int], order: Sequence[int], limits: Mapping[str, float]) -> Point:
        """The Point within limits whose knobs stand at `levels` where they can, the first in `order` before others.

        A knob that cannot takes its dearest level from which the limits can be kept, nothing after it being settled.
        `InfeasibleBudgetError` if no network keeps them.
        """
        self.require_feasible(limits)
        return self.point(self._repaired(np.array(levels, dtype=np.int64), order, limits).tolist())

    def _repaired(self, levels: np.ndarray, order: Sequence[int], limits: Mapping[str, float]) -> np.ndarray:
        """`levels` with the knobs of `order` ([n <= n_knobs]) so that those left can still keep the limits."""
        settled = np.zeros(len(self.knobs), dtype=bool)
        whole = settled.copy()
        whole[list(order)] = True
        if self.affordable(levels, whole, limits):
            return levels
        for t in order:
            settled[t] = True
            if not self.affordable(levels, settled, limits):
                found = []
                for level in self.knobs[t].levels:
                    levels[t] = level
                    if self.affordable(levels, settled, limits):
                        found.append((self._load(np.where(settled, levels, self.lowest), limits), level))
                levels[t] = max(found)[1]
        return levels

    def _load(self, levels: np.ndarray, limits: Mapping[str, float]) -> float:
        """The largest cost as a part of its limit."""
        return max(self.cost_of_levels(levels, metric) / max(limit, 1e-12) for metric, limit in limits.items())

    def fill(self, levels: Sequence[int], wanted: np.ndarray, limits: Mapping[str, float]) -> Point:
        """Raise `levels`, which are within `limits`, until no knob can rise any more; without limits leave them.

        The knob furthest below its `wanted` keep fraction ([n_knobs], a ratio) rises first.
        """
        if not limits:
            return self.point(levels)
        current = self.canonical(np.array(levels, dtype=np.int64))
        open_knobs = set(np.flatnonzero(self._amounts(current)).tolist())
        while open_knobs:
            t = min(open_knobs, key=lambda i: (self.knobs[i].keep(int(current[i])) / max(float(wanted[i]), 1e-9), i))
            legal = self.knobs[t].levels
            position = bisect_right(legal, int(current[t]))
            if position == len(legal):
                open_knobs.remove(t)
                continue
            before = current[t]
            current[t] = legal[position]
            if not self.within(current, limits):
                current[t] = before
                open_knobs.remove(t)  # costs never fall, so it can never rise again
        return self.point(current.tolist())

    def project(self, wanted: np.ndarray, limits: Mapping[str, float]) -> Point:
        """The Point nearest in shape to keep fractions `wanted` ([n_knobs]) that uses the budget up.

        All fractions are scaled by one factor until the limits are met from below, then `fill` uses what
        rounding left over; so a sample is neither over the budget nor far below it. Without limits it is the
        legal Point nearest to `wanted`.
        """
        if not limits:
            return self.decode(wanted)
        self.require_feasible(limits)

        wanted = np.asarray(wanted, dtype=float)
        start = self._decided(wanted, limits)
        amounts = np.flatnonzero(self._amounts(start)).tolist()
        if not amounts:
            return self.fill(start.tolist(), wanted, limits)

        def scaled(factor: float) -> np.ndarray:
            levels, keep = start.copy(), np.clip(factor * wanted, 0.0, 1.0)
            levels[amounts] = [_floor(self.knobs[t], keep[t]) for t in amounts]
            return levels

        low, high = 0.0, 1.0 / max(float(np.min(wanted[amounts])), 1e-3)
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if self.within(scaled(middle), limits) else (low, middle)
        return self.fill(scaled(low).tolist(), wanted, limits)

    def _amounts(self, levels: np.ndarray) -> np.ndarray:
        """The knobs that a budget is spent on when the others stand at `levels` ([n_knobs]): [n_knobs] bool."""
        return np.ones(len(self.knobs), dtype=bool)

    def _decided(self, wanted: np.ndarray, limits: Mapping[str, float]) -> np.ndarray:
        """Levels, amounts at their lowest, from which `project` spends the budget: [n_knobs], within `limits`."""
        return self.lowest


def _floor(knob: Knob, keep: float) -> int:
    """The largest legal level at or below `keep`, or the smallest there is."""
    return knob.levels[max(bisect_right(knob.levels, keep * knob.size + 1e-9) - 1, 0)]


def shown(cost: float) -> str:
    """A count whole, a time in ms to the microsecond, and one of microseconds to three digits."""
    if cost < 1:
        return f"{cost:.3g}"
    return f"{cost:,.0f}" if cost >= 1000 else f"{round(cost, 3):,.12g}"
