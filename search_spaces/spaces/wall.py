"""What every space of costed integer knobs shares: encoding, the budget's wall, projection onto a budget.

A budget is there to be used up, so with limits that do not bind the network stays whole. Without any limit nothing
is to be used up: every level is within the bounds, nothing is filled, and a projection is the nearest legal Point.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np

from search_spaces.errors import InfeasibleBudgetError, SpaceError
from search_spaces.spaces.rising import Rising
from search_spaces.types import Knob, Point

AHEAD = 16
"""How many steps up are priced at once, at first."""


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
        """The costs of many networks: `levels` [n, n_knobs], result [n], equal to those of each alone."""
        return np.array([self.cost_of_levels(row, metric) for row in levels], dtype=float)

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

    def points(self, levels: np.ndarray) -> list[Point]:
        """The canonical Points of many networks whose levels, [n, n_knobs], are legal."""
        return [self.point(row) for row in levels.tolist()]

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

    def are_within(self, levels: np.ndarray, limits: Mapping[str, float]) -> np.ndarray:
        """Whether each of many networks exceeds no limit: `levels` [n, n_knobs], result [n] bool."""
        kept = np.arange(len(levels))
        for metric, limit in limits.items():
            kept = kept[self.costs_of_levels(levels[kept], metric) <= limit]
        return np.isin(np.arange(len(levels)), kept)

    def at_once(self, metrics: Iterable[str]) -> bool:
        """Whether it takes less time to find these costs of many networks together than one after the other."""
        return False

    def first_over(self, levels: np.ndarray, limits: Mapping[str, float]) -> int:
        """The place of the first network that exceeds a limit, or n, where none costs less than the one before.

        `levels`: [n, n_knobs].
        """
        if self.at_once(limits):
            return int(np.argmin([*self.are_within(levels, limits), False]))
        return bisect_left(levels, True, key=lambda row: not self.within(row, limits))

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
        left, ahead = list(order), AHEAD
        while left:
            some = left[:ahead]
            fit = self._settle(levels, settled, some, limits)
            if fit < len(some):
                levels[some[fit]] = self._dearest(levels, settled, some[fit], limits)
            left, ahead = left[fit + 1 :] if fit < len(some) else left[fit:], 2 * ahead if fit == len(some) else AHEAD
        return levels

    def _settle(
        self, levels: np.ndarray, settled: np.ndarray, order: Sequence[int], limits: Mapping[str, float]
    ) -> int:
        """Settle the knobs of `order` in `settled` up to the first that cannot stand at its level: its place, or n."""
        if self.at_once(limits):
            rows = np.repeat(np.where(settled, levels, self.lowest)[None], len(order), axis=0)
            for place, t in enumerate(order):
                rows[place:, t] = levels[t]
            fit = self.first_over(rows, limits)
            settled[list(order[: fit + 1])] = True
            return fit
        for place, t in enumerate(order):
            settled[t] = True
            if not self.affordable(levels, settled, limits):
                return place
        return len(order)

    def _dearest(self, levels: np.ndarray, settled: np.ndarray, t: int, limits: Mapping[str, float]) -> int:
        """The dearest level of knob `t` from which the limits can be kept with the `settled` knobs at `levels`."""
        if self.at_once(limits):
            rows = np.repeat(np.where(settled, levels, self.lowest)[None], len(self.knobs[t].levels), axis=0)
            rows[:, t] = self.knobs[t].levels
            return self.knobs[t].levels[self.first_over(rows, limits) - 1]
        found, levels = [], levels.copy()
        for level in self.knobs[t].levels:
            levels[t] = level
            if self.affordable(levels, settled, limits):
                found.append((self._load(np.where(settled, levels, self.lowest), limits), level))
        return max(found)[1]

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
        rising = Rising(self.knobs, current, wanted, np.flatnonzero(self._amounts(current)).tolist())
        at_once = self.at_once(limits)
        first = ahead = AHEAD if at_once else 1
        while rising:
            # Costs never fall: what cannot rise now cannot later, and of steps one after the other the first fit.
            if at_once:
                rising.keep(self.are_within(rising.alone(), limits))
            steps = rising.ahead(ahead)
            fit = self.first_over(steps, limits)
            rising.go(fit)
            if fit < len(steps):
                rising.stop()
            ahead = 2 * ahead if fit == len(steps) else first
        return self.point(rising.levels.tolist())

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
            levels = start.copy()
            levels[amounts] = self._floors(np.clip(factor * wanted, 0.0, 1.0))[amounts]
            return levels

        low, high = 0.0, 1.0 / max(float(np.min(wanted[amounts])), 1e-3)
        known: dict[bytes, bool] = {}  # most of the last steps come to levels that have been tried
        for _ in range(40):
            middle = (low + high) / 2
            levels = scaled(middle)
            key = levels.tobytes()
            if key not in known:
                known[key] = self.within(levels, limits)
            low, high = (middle, high) if known[key] else (low, middle)
        return self.fill(scaled(low).tolist(), wanted, limits)

    def _floors(self, keeps: np.ndarray) -> np.ndarray:
        """The largest legal level of each knob at or below a keep fraction, or the smallest there is: [n_knobs]."""
        legal, sizes = self._legal
        places = np.maximum((legal <= (keeps * sizes + 1e-9)[:, None]).sum(axis=1) - 1, 0)
        floors: np.ndarray = legal[np.arange(len(legal)), places]
        return floors

    @cached_property
    def _legal(self) -> tuple[np.ndarray, np.ndarray]:
        """The legal levels of each knob, ascending, then as many more than any as make rows of one length: [n_knobs,
        n_levels]; and its size: [n_knobs]."""
        most = max(len(knob.levels) for knob in self.knobs)
        endless = np.iinfo(np.int64).max
        rows = [(*knob.levels, *[endless] * (most - len(knob.levels))) for knob in self.knobs]
        return np.array(rows, dtype=np.int64), np.array([knob.size for knob in self.knobs])

    def _amounts(self, levels: np.ndarray) -> np.ndarray:
        """The knobs that a budget is spent on when the others stand at `levels` ([n_knobs]): [n_knobs] bool."""
        return np.ones(len(self.knobs), dtype=bool)

    def _decided(self, wanted: np.ndarray, limits: Mapping[str, float]) -> np.ndarray:
        """Levels, amounts at their lowest, from which `project` spends the budget: [n_knobs], within `limits`."""
        return self.lowest


def shown(cost: float) -> str:
    """A count whole, a time in ms to the microsecond, and one of microseconds to three digits."""
    if cost < 1:
        return f"{cost:.3g}"
    return f"{cost:,.0f}" if cost >= 1000 else f"{round(cost, 3):,.12g}"
