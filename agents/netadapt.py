"""NetAdapt (Yang et al., ECCV 2018, arXiv 1804.03230, Algorithm 1), then a local search on the budget.

The walk starts from the whole network. Each step tries the networks that cut one knob by what the step has to save,
and goes on from the best of them as measured; knobs that cannot save it alone are left out. Most trials of the walk
are over the budget: they are measured and end infeasible, with values. Chosen where the paper leaves room:

- What a step saves is counted in the load: the largest of cost / limit over the limits, 1 on the budget. All steps
  left save the same, and as many are left as the trials planned for the walk allow.
- A step must not ask so much of a knob that half of them cannot give it twice over. Where that makes more steps than
  there are trials for, a step tries only some knobs: those never tried first, then those that lost least when tried
  last. Cutting a knob further seldom costs less than before, which makes this a lazy greedy search.
- If that leaves fewer than two trials a step, or no knob can save enough alone, the walk ends at once: the next trial
  cuts all knobs alike, down to the budget.
- Whatever is within the limits is filled up to use the budget.
- The trials left over go to a local search: one knob falls for another to rise (`agents.moves.exchange`) in the best
  Point within the limits so far. Without limits there is nothing to walk to: the whole network is all it tries.

The paper tunes each candidate for a while before it measures it; here a trial is whatever the study makes of it.
Candidates of one step may run at the same time; between steps the agent waits for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from agents.base import REDRAWS, NumberedAgent
from agents.errors import AgentError
from agents.moves import cut, exchange, within
from agents.types import Task, Trial
from search_spaces import Point

FINENESS = 2.0
"""A step asks of the median knob at most one part in this many of all it could still save."""

FEWEST = 2
"""Candidates a step below which a walk is not begun."""


@dataclass(frozen=True)
class NetAdaptOptions:
    """What may be set."""

    walk: float = 0.5
    """The part of the trials planned that the walk down to the budget may take, in (0, 1]."""
    strength: float = 0.2
    """The widest step of the local search, as a part of a knob's levels, in (0, 1]."""

    def __post_init__(self) -> None:
        for name in ("walk", "strength"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
                raise AgentError(f"option {name!r}: expected a number in (0, 1], got {value!r}")


class NetAdapt(NumberedAgent):
    """Greedy, one knob at a time, from the whole network down to the budget."""

    Options: ClassVar[type] = NetAdaptOptions
    stays_within: ClassVar[bool] = False
    takes_choices: ClassVar[bool] = False

    def __init__(self, task: Task, options: NetAdaptOptions) -> None:
        super().__init__(task, options)
        self.strength = options.strength
        self.walk_ends = min(math.ceil(options.walk * self.trials), self.trials - 1)
        """After how many trials the walk is over, but for one that cuts all knobs if it is not."""
        self.base = self.space.original_levels.tolist()
        """Where the walk stands: levels [n_knobs]."""
        self.base_utility = -math.inf
        """Of the base; the whole network is not measured, and counts as the best of the first step."""
        self.rates: dict[int, float] = {}
        """Knob -> utility lost for each unit of load saved when it was cut last; infinite if that trial failed."""
        self.best: Trial | None = None
        """The best trial within the limits."""
        self._told: dict[Point, Trial] = {}
        self.step = self._next_step()
        """The candidates of this step: Point -> the knob it cuts, None for all; empty once the walk is over."""

    def propose(self, number: int, taken: set[Point]) -> Point | None:
        """The next candidate of the step; after the walk, a neighbour of the best Point."""
        known = taken | self._told.keys()
        if self.step:
            return next((point for point in self.step if point not in known), None)
        if not self.limits:
            return None
        rng = self.exploring(number)
        start = self.best.point if self.best is not None else self.space.point(self.base)
        points = (exchange(self.space, start, self.limits, rng, self.strength) for _ in range(1 + REDRAWS))
        return next((point for point in points if point not in known), None)

    def learn(self, trial: Trial) -> None:
        """Note the trial; once every candidate of the step is told, take the best and plan the next step."""
        self._told[trial.point] = trial
        ended_well = self.valued(trial)
        if ended_well and self.load(self._levels(trial.point)) <= 1:
            self.best = max(filter(None, (self.best, trial)), key=lambda known: known.utility(self.goal))
        while self.step and self._told.keys() >= self.step.keys():
            self._take_best()
            self.step = self._next_step()

    def load(self, levels: Sequence[int]) -> float:
        """The largest of cost / limit at `levels` ([n_knobs]); 0 if there is no limit."""
        point = self.space.point(levels)
        return max((self.space.cost(point, metric) / limit for metric, limit in self.limits.items()), default=0.0)

    def _take_best(self) -> None:
        """Go on from the candidate of highest utility, the first if all failed; note what each knob's cut has cost."""
        utility = {point: self._told[point].utility(self.goal) for point in self.step}
        chosen = max(utility, key=lambda point: utility[point])
        before = self.base_utility if self.base_utility > -math.inf else utility[chosen]
        load = self.load(self.base)
        for point, t in self.step.items():
            if t is not None:
                saved = load - self.load(self._levels(point))
                self.rates[t] = (before - utility[point]) / saved if utility[point] > -math.inf else math.inf
        self.base = self._levels(chosen)
        self.base_utility = utility[chosen]

    def _next_step(self) -> dict[Point, int | None]:
        """The candidates of the next step; none once the base, if measured, is within the limits."""
        load = self.load(self.base)
        if load <= 1:
            return {} if self._told else {self.space.point(self.base): None}
        out: dict[Point, int | None] = {}
        steps = self._steps_left(load)
        if steps:
            target = 1 + (load - 1) * (1 - 1 / steps)
            limits = {metric: target * limit for metric, limit in self.limits.items()}
            cuts = {t: cut(self.space, self.base, t, limits) for t in range(len(self.base))}
            able = {t: levels for t, levels in cuts.items() if within(self.space, levels, limits)}
            for t in self._promising(list(able), steps):
                out.setdefault(self._filled(able[t]), t)
        return out or {self.space.project(self._keeps(self.base), self.limits): None}

    def _steps_left(self, load: float) -> int:
        """How many more steps the walk takes from `load`; 0 if there are too few trials for steps of single knobs."""
        floors = [knob.levels[0] for knob in self.space.knobs]
        alive = [t for t, level in enumerate(self.base) if level > floors[t]]
        saves = {t: load - self.load([*self.base[:t], floors[t], *self.base[t + 1 :]]) for t in alive}
        most = float(np.median(list(saves.values()))) / FINENESS
        if most <= 0 or len(alive) == 1:
            return 0
        finest = math.ceil((load - 1) / most)
        useful = [t for t in alive if saves[t] >= (load - 1) / finest]
        left = self.walk_ends - self.told
        to_full = left // len(useful)
        if to_full >= finest:
            return to_full
        spare = left - sum(t not in self.rates for t in useful)
        steps = max(to_full, min(finest, spare), 0)
        return steps if self.rates or spare >= FEWEST * steps else 0

    def _promising(self, able: list[int], steps: int) -> list[int]:
        """The knobs to try in the next of `steps`: all, or those never tried and the cheapest, if trials are few."""
        fresh = sum(t not in self.rates for t in able)
        count = fresh + max((self.walk_ends - self.told - fresh) // steps, 1)
        return sorted(sorted(able, key=lambda t: self.rates.get(t, -math.inf))[:count])

    def _filled(self, levels: list[int]) -> Point:
        """The Point at `levels`, filled up if it is within the limits."""
        if self.load(levels) > 1:
            return self.space.point(levels)
        return self.space.fill(levels, self._keeps(levels), self.limits)

    def _keeps(self, levels: Sequence[int]) -> np.ndarray:
        return np.array([knob.keep(level) for knob, level in zip(self.space.knobs, levels, strict=True)])

    def _levels(self, point: Point) -> list[int]:
        return [point[knob.name] for knob in self.space.knobs]
