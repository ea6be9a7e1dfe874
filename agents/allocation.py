"""Exact allocation of a budget over knobs whose losses add up: dynamic programming, as in SPDY.

After Frantar & Alistarh 2022, "SPDY: Accurate Pruning with Speedup Guarantees" (arXiv 2201.13096), section 3: minimise
the sum over knobs of weight * loss(level) within the limits, by D_t[b] = min over levels of D_{t-1}[b - cost] + loss
for every number b of buckets of cost.

- **Discretisation.** If all differences of cost are multiples of a unit of which the budget holds at most `BUCKETS`,
  that unit is the bucket and the programme is exact (inner channels of residual blocks: thousands of MACs each).
  Else a bucket is the budget / `BUCKETS` and costs are rounded up: less than n_knobs / `BUCKETS` of the budget (0.3 %
  for 27 knobs) is left over, and the fill spends it where it saves the most loss for its cost.
- **Costs that do not add up** (a width multiplies the next one's) are linearised around a Point, each knob's cost with
  the others as they are there. The programme's answer is repaired to the true limits, filled, and the next round starts
  around it; the best of `ROUNDS` is taken, which is good, not proven best.
- **Pairs.** Where one knob makes another dearer (`ErrorCurves`), as factors make the rounding of their weights, the
  programme chooses among all levels of both at once, which SPDY calls the options of a site.
- **Several limits.** The programme knows one cost, so it is solved for each limit's and for the sum of all, each as
  a part of its limit. Every answer is repaired to all limits and filled, and the one of least loss is taken.
- **Without a limit** that binds, the network stays whole.
- **Blocks and skips** need no curves. Those without stand as in the uniform Point, and only the others are allocated.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from agents.base import NumberedAgent
from agents.errors import AgentError
from agents.summed_losses import Losses, Pair
from agents.types import ErrorCurves, Sensitivity, Task, Trial
from search_spaces import Knob, Point, Space

BUCKETS = 10_000
"""The most buckets the budget is cut into; the paper's figure."""

ROUNDS = 3
"""Linearisations of costs that do not add up; from the third on an allocation gains a thousandth of its loss."""

REMEMBERED = 64
"""Answers kept by their weights: a search asks for that of a trial once to propose it and once more to learn of it."""


class Allocation(NumberedAgent):
    """The searchless recipe: the Point of least loss by the error curves, and no more."""

    uses_sensitivity: ClassVar[bool] = True
    takes_choices: ClassVar[bool] = False
    max_trials: ClassVar[int | None] = 1

    def __init__(self, task: Task, options: object) -> None:
        super().__init__(task, options)
        allocator = Allocator(self.space, self.limits, task.sensitivity)
        self.point = allocator.plain()

    def propose(self, number: int, taken: set[Point]) -> Point | None:
        """The allocation, once."""
        return None if number > 0 or self.point in taken else self.point

    def learn(self, trial: Trial) -> None:
        """A rule learns nothing."""


class Allocator:
    """Finds the Point of least weighted loss within the limits. Everything but the weights is fixed."""

    knobs: tuple[Knob, ...]
    """Those that are allocated: all but bits without a curve."""
    losses: Losses
    """Theirs."""

    def __init__(self, space: Space, limits: Mapping[str, float], sensitivity: Sensitivity | None) -> None:
        self.space = space
        curves = _checked(space, sensitivity)
        uniform = space.project(np.ones(len(space.knobs)), limits)
        self._uniform = np.array([uniform[knob.name] for knob in space.knobs])  # [n_knobs of the space]
        self.knobs = tuple(knob for knob in space.knobs if knob.name in curves)
        self._places = [i for i, knob in enumerate(space.knobs) if knob.name in curves]
        self._legal = [np.array(knob.levels) for knob in self.knobs]
        self.losses = Losses.of(self.knobs, curves)
        self._options = _options(self.knobs, self.losses.pairs)
        self._metrics = tuple(limits)
        self._limits = np.array([limits[metric] for metric in limits])  # [n_limits]
        highest = np.array([len(knob.levels) - 1 for knob in self.knobs])
        self._whole = self._point(highest) if self._excess(self._costs(highest)) <= 0 else None
        # Differences of cost never fall when other knobs rise: if they are equal at both ends, costs add up.
        low, high = self._differences(np.zeros_like(highest)), self._differences(highest)
        self.separable = all(np.allclose(a, b, rtol=1e-9) for a, b in zip(low, high, strict=True))
        self._begin_at(uniform)
        self._begin_at(self._solve(np.ones(len(self.knobs))))
        self._solved = lru_cache(maxsize=REMEMBERED)(lambda weights: self._solve(np.frombuffer(weights)))

    def plain(self) -> Point:
        """The Point of least loss as the curves have it."""
        return self.solve(np.ones(len(self.knobs)))

    def solve(self, weights: np.ndarray) -> Point:
        """The Point of least sum of weight * loss within the limits, all budget used: `weights` [n_knobs], >= 0."""
        return self._solved(weights.astype(np.float64).tobytes())

    def _solve(self, weights: np.ndarray) -> Point:
        if self._whole is not None:
            return self._whole
        if not self.knobs:
            return self._point(self._start)
        losses = self.losses.weighted(weights)
        found = [self._fill(self._start, losses)]
        for share in self._shares():
            around = self._start
            for _ in range(1 if self.separable else ROUNDS):
                answer = self._fill(self._repair(self._programme(losses, around, share), losses), losses)
                found.append(answer)
                if (answer == around).all():
                    break
                around = answer
        return self._point(min(found, key=losses.total))

    def indices(self, point: Point) -> np.ndarray:
        """The positions of a Point's levels among those of the knobs: [n_knobs]."""
        return np.array([knob.levels.index(point[knob.name]) for knob in self.knobs])

    def spares(self, point: Point, knobs: Sequence[int]) -> bool:
        """Whether a Point takes nothing from these knobs, by their places; those of a removed block do not count."""
        indices = self.indices(point)
        indices[list(knobs)] = [len(self.knobs[t].levels) - 1 for t in knobs]
        return self._point(indices) == point

    def _begin_at(self, point: Point) -> None:
        """Have every programme begin around `point`."""
        self._start = self.indices(point)
        self._at_start = self._differences(self._start)

    def _shares(self) -> list[np.ndarray]:
        """Under which sums of costs the programme is solved: factors [n_limits]."""
        alone = list(np.eye(len(self._limits)))
        return alone if len(alone) == 1 else [*alone, 1 / self._limits]

    def _programme(self, losses: Losses, around: np.ndarray, share: np.ndarray) -> np.ndarray:
        """The best indices, [n_knobs], under one sum of costs with all options' as they are around `around`."""
        tables = self._at_start if around is self._start else self._differences(around)
        spent, lost, costs, orders = 0.0, [], [], []
        for option, table in zip(self._options, tables, strict=True):
            cost = share @ table
            spent += cost[option.place(around)]
            orders.append(np.argsort(cost, kind="stable"))
            lost.append(losses.of_options(option.knobs)[orders[-1]])
            costs.append(cost[orders[-1]])
        budget = float(spent + share @ (self._limits - self._costs(around)))
        answer = np.empty(len(self.knobs), dtype=np.int64)
        for option, order, chosen in zip(self._options, orders, allocate(lost, costs, budget), strict=True):
            answer[list(option.knobs)] = np.unravel_index(order[chosen], option.sizes)
        return answer

    def _repair(self, indices: np.ndarray, losses: Losses) -> np.ndarray:
        """Lower knobs until all limits are met, each time the one that loses least for what it relieves."""
        current, excess = indices, self._excess(self._costs(indices))
        while excess > 0:
            ratios = {}
            able = np.flatnonzero(current > 0).tolist()
            for t, lowered in zip(able, self._costs_of([_moved(current, t, -1) for t in able]), strict=True):
                relief = excess - self._excess(lowered)
                ratios[t] = losses.rise(current, t, -1) / max(relief, 1e-12)
            current = _moved(current, min(ratios, key=ratios.__getitem__), -1)
            excess = self._excess(self._costs(current))
        return current

    def _fill(self, indices: np.ndarray, losses: Losses) -> np.ndarray:
        """Raise knobs until none can rise within the limits, each time the one that saves most for what it costs."""
        current = indices
        rising = {t for t, knob in enumerate(self.knobs) if current[t] + 1 < len(knob.levels)}
        while rising:
            gains, costs = {}, self._costs(current)
            able = sorted(rising)
            for t, raised in zip(able, self._costs_of([_moved(current, t, 1) for t in able]), strict=True):
                if self._excess(raised) > 0:
                    rising.remove(t)  # costs never fall, so it can never rise again
                    continue
                part = float(np.sum((raised - costs) / self._limits))
                gains[t] = -losses.rise(current, t, 1) / max(part, 1e-12)
            if gains:
                t = max(gains, key=gains.__getitem__)
                current = _moved(current, t, 1)
                rising -= {t} if current[t] + 1 == len(self.knobs[t].levels) else set()
        return current

    def _differences(self, around: np.ndarray) -> list[np.ndarray]:
        """What options cost above the lowest, the others as in `around`: n_options times [n_limits, n_places]."""
        costs = self._costs_of([at for option in self._options for at in option.each(around)]).T
        ends = np.cumsum([math.prod(option.sizes) for option in self._options])
        return [table - table[:, :1] for table in np.split(costs, ends, axis=1)[:-1]]

    def _excess(self, costs: np.ndarray) -> float:
        """How far costs, [n_limits], are over the limits, in parts of them, summed; 0 if none is exceeded."""
        return float(np.maximum(costs / self._limits - 1, 0.0).sum()) if (costs > self._limits).any() else 0.0

    def _costs(self, indices: np.ndarray) -> np.ndarray:
        """[n_limits]"""
        levels = self._levels(indices)
        return np.array([self.space.cost_of_levels(levels, metric) for metric in self._metrics])

    def _costs_of(self, indices: Sequence[np.ndarray]) -> np.ndarray:
        """The same of many, each [n_knobs]: [n, n_limits]."""
        levels = self._levels(np.array(indices, dtype=np.int64).reshape(-1, len(self.knobs)))
        costs = [self.space.costs_of_levels(levels, metric) for metric in self._metrics]
        return np.array(costs).reshape(len(costs), len(levels)).T

    def _levels(self, indices: np.ndarray) -> np.ndarray:
        """The levels of all knobs of the space: [..., n_knobs of it]."""
        levels = np.broadcast_to(self._uniform, (*indices.shape[:-1], len(self._uniform))).copy()
        for t, (place, legal) in enumerate(zip(self._places, self._legal, strict=True)):
            levels[..., place] = legal[indices[..., t]]
        return levels

    def _point(self, indices: np.ndarray) -> Point:
        return self.space.point(self._levels(indices).tolist())


def allocate(losses: Sequence[np.ndarray], costs: Sequence[np.ndarray], budget: float) -> np.ndarray:
    """One level for each knob so that the sum of losses is least and that of costs at most `budget`: [n_knobs] indices.

    `losses` and `costs` are n_knobs times [n_levels]; costs start at 0, never fall, and are rounded up to buckets. Time
    is O(levels of all knobs * buckets), all buckets at once.
    """
    budget = max(budget, 0.0)  # sums of costs are rounded
    bucket = _bucket(costs, budget)
    size = int(budget / bucket + 1e-9) + 1
    units = [np.minimum(np.ceil(cost / bucket - 1e-9), size).astype(np.int64) for cost in costs]  # at `size` too many
    least = [np.zeros(size, dtype=np.float32)]  # least[t][b]: the least loss of the first t knobs for at most b buckets
    candidate = np.empty(size, dtype=np.float32)
    for loss, unit in zip(losses, units, strict=True):
        best = np.full(size, np.inf, dtype=np.float32)
        for value, cost in zip(loss.astype(np.float32), unit, strict=True):
            if cost >= size:
                break
            np.add(least[-1][: size - cost], value, out=candidate[cost:])
            np.minimum(best[cost:], candidate[cost:], out=best[cost:])
        least.append(best)
    chosen = np.zeros(len(losses), dtype=np.int64)
    left = size - 1
    for t in reversed(range(len(losses))):
        legal = units[t][units[t] <= left]
        chosen[t] = np.argmin(least[t][left - legal] + losses[t][: len(legal)])
        left -= units[t][chosen[t]]
    return chosen


@dataclass(frozen=True)
class _Option:
    """One knob, or the two of a pair, whose levels are chosen at once."""

    knobs: tuple[int, ...]
    sizes: tuple[int, ...]
    """How many levels each has."""

    def place(self, indices: np.ndarray) -> int:
        """Which of all levels, of two knobs the second running faster, `indices` of [n_knobs] have."""
        return int(np.ravel_multi_index([indices[t] for t in self.knobs], self.sizes))

    def each(self, indices: np.ndarray) -> Iterator[np.ndarray]:
        """`indices` with each of all levels: n_places times [n_knobs]."""
        for places in np.ndindex(*self.sizes):
            changed = indices.copy()
            changed[list(self.knobs)] = places
            yield changed


def _options(knobs: Sequence[Knob], pairs: Sequence[Pair]) -> list[_Option]:
    """What is chosen: pairs, and all other knobs by themselves, in the order of their first."""
    second = {pair.first: pair.second for pair in pairs}
    together = [(t, second[t]) if t in second else (t,) for t in range(len(knobs)) if t not in second.values()]
    return [_Option(ts, tuple(len(knobs[t].levels) for t in ts)) for ts in together]


def _bucket(costs: Sequence[np.ndarray], budget: float) -> float:
    """The greatest unit of which all costs are multiples, unless the budget holds more than `BUCKETS` of it."""
    every = np.concatenate(costs)
    if budget > 0 and np.array_equal(every, np.rint(every)):
        unit = int(np.gcd.reduce(every.astype(np.int64)))
        if unit and budget / unit <= BUCKETS:
            return float(unit)
    return max(budget, 1e-12) / BUCKETS


def _moved(indices: np.ndarray, t: int, by: int) -> np.ndarray:
    """`indices` with knob `t` moved `by` so many levels."""
    moved = indices.copy()
    moved[t] += by
    return moved


def _checked(space: Space, sensitivity: Sensitivity | None) -> ErrorCurves:
    """The curves of all knobs, [n_levels] each; a bit may have none."""
    if sensitivity is None:
        raise AgentError(
            "this agent allocates by error curves, and was given none: pass `sensitivity`, knob name -> loss at "
            "each level, or choose an agent that does without (random, evolution, amc)"
        )
    losses = {}
    for knob in space.knobs:
        if knob.is_bit and knob.name not in sensitivity:
            continue
        loss = np.asarray(sensitivity.get(knob.name, ()), dtype=np.float64)
        if loss.shape != (len(knob.levels),) or not np.isfinite(loss).all() or (loss < 0).any():
            raise AgentError(
                f"expected the sensitivity of knob {knob.name!r} as {len(knob.levels)} finite losses >= 0, one for "
                f"each level, got {loss.shape[0] if loss.ndim == 1 else loss.shape} values: {loss.ravel()[:3]}..."
            )
        losses[knob.name] = loss
    return ErrorCurves(losses, sensitivity.dearer if isinstance(sensitivity, ErrorCurves) else {})
