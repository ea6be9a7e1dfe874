"""Spaces of choices, levels that are names without an order of cost, and how a budget is kept in them all the same.

With amounts the smallest level is the cheapest, so one network tells whether a budget can still be met. Of choices the
cheapest depends on what stands around it: a block that is cheap for few channels is dear for many, and a stride makes
all that follows cheaper. But a network is a chain of parts, and what a part costs depends on what reaches it (channels,
size of the map: its *state*) and on its own knobs only. So the least cost over all choices that are still open is found
exactly, part by part, by dynamic programming over states. With several limits a state has several least costs, those of
which none is as low in every metric as another: a front.

Choices come before the amounts, and are decided without regard to using the budget up: a dearer kind of block is not a
better one. What they leave is spent on the amounts.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np

from search_spaces.errors import InfeasibleBudgetError, SpaceError
from search_spaces.spaces.conditional import ConditionalSpace
from search_spaces.spaces.wall import shown
from search_spaces.types import Knob, Point

State = Hashable
Costs = tuple[float, ...]
"""One number a metric, in the order of the space's `metrics`."""


class ChoiceSpace(ConditionalSpace):
    """A chain of parts, some of whose knobs are choices. A subclass says in `ways` what each part can cost.

    Knobs stand in the order choices, gates, amounts, free. Costs are sums over parts, and never fall when an amount or
    a gate rises.
    """

    n_parts: int
    start: State
    """What reaches the first part."""

    @abstractmethod
    def ways(self, part: int, state: State, levels: np.ndarray, settled: np.ndarray) -> Iterable[tuple[Costs, State]]:
        """What `part` can cost and make of `state`, once for each way in which its knobs can still stand.

        Knobs that are `settled` ([n_knobs] bool) stand at `levels` ([n_knobs]), amounts and gates that are not at their
        lowest, and choices that are not at any.
        """

    @cached_property
    def _feasible(self) -> set[frozenset[tuple[str, float]]]:
        """Limits that some network is known to keep."""
        return set()

    def affordable(self, levels: np.ndarray, settled: np.ndarray, limits: Mapping[str, float]) -> bool:
        """Whether some network keeps the limits with the `settled` knobs ([n_knobs] bool) at `levels` ([n_knobs])."""
        return bool(self.least(levels, settled, limits))

    def least(self, levels: np.ndarray, settled: np.ndarray, limits: Mapping[str, float]) -> list[Costs]:
        """The least costs in the metrics of `limits` of any network within them: a front, empty if there is none.

        The `settled` knobs ([n_knobs] bool) stand at `levels` ([n_knobs]).
        """
        columns = [self.metrics.index(metric) for metric in limits]
        most = tuple(limits.values())
        fronts: dict[State, list[Costs]] = {self.start: [(0.0,) * len(most)]}
        for part in range(self.n_parts):
            reached: dict[State, set[Costs]] = {}
            for state, spent in fronts.items():
                for costs, after in self.ways(part, state, levels, settled):
                    own = [costs[column] for column in columns]
                    sums = (tuple(a + b for a, b in zip(so_far, own, strict=True)) for so_far in spent)
                    kept = (total for total in sums if all(a <= b for a, b in zip(total, most, strict=True)))
                    reached.setdefault(after, set()).update(kept)
            fronts = {state: front(found) for state, found in reached.items() if found}
        return front({costs for found in fronts.values() for costs in found})

    def require_feasible(self, limits: Mapping[str, float]) -> None:
        """Raise `InfeasibleBudgetError`, saying what can be met, unless some network meets every limit."""
        asked = frozenset(limits.items())
        if asked in self._feasible:
            return
        none = np.zeros(len(self.knobs), dtype=bool)
        for metric in limits:
            if metric not in self.metrics:
                raise SpaceError(f"no budget on {metric!r}: this space predicts {', '.join(self.metrics)}")
        if self.affordable(self.lowest, none, limits):
            self._feasible.add(asked)
            return
        for metric, limit in limits.items():
            ((low,),) = self.least(self.lowest, none, {metric: np.inf})
            if low > limit:
                raise InfeasibleBudgetError(
                    f"no network in the space has {metric} <= {shown(limit)}: the smallest has {shown(low)}. Raise the "
                    f"budget, or allow cheaper choices"
                )
        first, *others = limits
        all_but_one = {metric: limits[metric] for metric in others} | {first: np.inf}
        low = min(costs[-1] for costs in self.least(self.lowest, none, all_but_one))
        raise InfeasibleBudgetError(
            f"no network in the space keeps all limits at once, though each can be kept alone: within the others, the "
            f"least {first} is {shown(low)}, and the limit is {shown(limits[first])}. Raise one of them"
        )

    def least_costs(self, limits: Mapping[str, float]) -> Mapping[str, float]:
        """Of each limited metric, what the network costs that takes the least part of its limits: metric -> cost."""
        fronts = self.least(self.lowest, np.zeros(len(self.knobs), dtype=bool), limits)
        parts = [
            max((c / max(limit, 1e-12) for c, limit in zip(costs, limits.values(), strict=True)), default=0.0)
            for costs in fronts
        ]
        return dict(zip(limits, fronts[int(np.argmin(parts))], strict=True))

    def allowed(self, prefix: Sequence[int], limits: Mapping[str, float]) -> tuple[int, ...]:
        """The levels of the next knob from which the budget can still be met."""
        t = len(prefix)
        knob, levels = self.knobs[t], self.lowest
        levels[:t] = prefix
        if not self.active(levels)[t]:
            return knob.levels[:1]
        if knob.kind != "choice":
            return super().allowed(prefix, limits)
        settled = np.arange(len(self.knobs)) <= t
        found = []
        for level in knob.levels:
            levels[t] = level
            if not limits or self.affordable(levels, settled, limits):
                found.append(level)
        return tuple(found)

    def bounds(self, prefix: Sequence[int], limits: Mapping[str, float]) -> tuple[int, int]:
        """As for any conditional space; of a choice the first and the last level allowed."""
        if self.knobs[len(prefix)].kind != "choice":
            return super().bounds(prefix, limits)
        found = self.allowed(prefix, limits)
        return found[0], found[-1]

    def sequence(self, point: Point) -> np.ndarray:
        """A row for each active knob: its features, its keep fraction if it is no choice, else a column a level.

        float32, [n_rows, n_features + 1 + the most levels of a choice]; one row of zeros if nothing is active.
        """
        levels = self.levels(point)
        chosen = np.zeros((len(self.knobs), 1 + max(len(k.levels) for k in self.knobs if k.kind == "choice")))
        for t, (knob, level) in enumerate(zip(self.knobs, levels.tolist(), strict=True)):
            if knob.kind == "choice":
                chosen[t, 1 + knob.levels.index(level)] = 1.0
            else:
                chosen[t, 0] = knob.keep(level)
        rows = np.column_stack([self._static, chosen])[self.active(levels)]
        return (rows if len(rows) else np.zeros((1, rows.shape[1]))).astype(np.float32)

    def _decided(self, wanted: np.ndarray, limits: Mapping[str, float]) -> np.ndarray:
        """Choices, gates and what is free as wanted where the smallest amounts are affordable with them.

        Where not, those yield first that are furthest from what is wanted of them.
        """
        decided = np.flatnonzero(self._is_a("choice", "gate", "free"))
        levels, distance = self.lowest, np.zeros(len(self.knobs))
        for t in decided.tolist():
            knob, keep = self.knobs[t], float(wanted[t])
            levels[t] = knob.nearest(keep)
            distance[t] = abs(knob.keep(int(levels[t])) - keep) * len(knob.levels)
        order = decided[np.argsort(distance[decided], kind="stable")].tolist()
        return self.canonical(self._repaired(levels, order, limits))


class AdditiveSpace(ChoiceSpace):
    """Choices each of which adds its own part to a cost, whatever the others are. It has nothing to build."""

    start = None

    def __init__(self, knobs: Sequence[Knob], constant: Mapping[str, float], parts: Mapping[str, Sequence[np.ndarray]]):
        """`constant`: metric -> what every network costs; `parts`: metric -> of each knob what each level adds."""
        self.knobs = tuple(knobs)
        self.metrics = tuple(constant)
        self.feature_names = ("index", *(f"span_{metric}" for metric in self.metrics))
        self.n_parts = len(self.knobs)
        self._constant = dict(constant)
        self._added = {
            metric: [
                dict(zip(knob.levels, map(float, added), strict=True)) for knob, added in zip(knobs, of, strict=True)
            ]
            for metric, of in parts.items()
        }

        self._cheapest = {metric: [min(of.values()) for of in added] for metric, added in self._added.items()}

    def cost_of_levels(self, levels: np.ndarray, metric: str) -> float:
        """The cost of the network whose knobs, in order, stand at `levels`: [n_knobs]."""
        cost = self._constant[metric]
        for added, level in zip(self._added[metric], levels.tolist(), strict=True):
            cost += added[level]  # in the order of the parts: fractions are rounded as `least` rounds them
        return cost

    def affordable(self, levels: np.ndarray, settled: np.ndarray, limits: Mapping[str, float]) -> bool:
        """As for any space of choices; under one limit the cheapest levels are known."""
        if len(limits) != 1:
            return super().affordable(levels, settled, limits)
        ((metric, limit),) = limits.items()
        cost = self._constant[metric]
        pairs = zip(levels.tolist(), settled.tolist(), self._added[metric], self._cheapest[metric], strict=True)
        for level, is_settled, added, least in pairs:
            cost += added[level] if is_settled else least
        return cost <= limit

    def ways(self, part: int, state: State, levels: np.ndarray, settled: np.ndarray) -> Iterable[tuple[Costs, State]]:
        """What the levels that the part's one knob can still have add; the first adds what all networks cost."""
        knob = self.knobs[part]
        for level in (int(levels[part]),) if settled[part] else knob.levels:
            costs = (self._added[metric][part][level] for metric in self.metrics)
            constant = (self._constant[metric] if part == 0 else 0.0 for metric in self.metrics)
            yield tuple(a + b for a, b in zip(costs, constant, strict=True)), None

    def features(self) -> np.ndarray:
        """Where each knob stands in the order, and how far apart its levels are in each cost: [n_knobs, n_features]."""
        n = len(self.knobs)
        columns = [np.arange(n) / max(n - 1, 1)]
        for metric in self.metrics:
            spans = np.array([max(of.values()) - min(of.values()) for of in self._added[metric]])
            columns.append(spans / (spans.max() or 1.0))
        return np.stack(columns, axis=1)


def front(found: Iterable[Costs]) -> list[Costs]:
    """Those of `found` that no other is at or below in every metric, in ascending order."""
    kept: list[Costs] = []
    for costs in sorted(found):
        if not any(all(a <= b for a, b in zip(other, costs, strict=True)) for other in kept):
            kept.append(costs)
    return kept
