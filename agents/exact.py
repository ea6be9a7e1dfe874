"""SPDY's search (Frantar & Alistarh 2022, arXiv 2201.13096): exact allocation, its coefficients found by measurement.

Error curves of single knobs do not say how much each matters to the whole network. So each knob's losses are multiplied
by a coefficient in [0, 1], the allocation is solved exactly for them (`agents.allocation`), and its measured objective
judges the coefficients. Every candidate is within the budget, whatever they are. The phases, spread over the trials:

- Trial 0 has all coefficients 1: the plain exact allocation by the curves, where the paper has curves of a fixed form.
- Where several operators share the budget, which the paper does not have, each has its own coefficient too. The next
  trials take from one operator alone, and then from all but one, each in its turn, where that keeps the budget: curves
  of different operators are in one unit only roughly, so that the plain allocation can be worse than the best single
  operator, and a search is not to be.
- A tenth of the trials, at most the paper's 100: coefficients drawn from U(0, 1).
- The rest, from the best so far: k of them drawn anew, k falling from a tenth of the knobs to 1 (at least 1), evenly
  over the trials; the paper lowers k after 100 failures in a row, which take more trials than there are.
- Coefficients of operators are drawn too, between 1 and one part in 100, evenly over the logarithm: errors of removed
  blocks add up to far more than their sum, those of channels do not, and draws for single knobs cancel out over an
  operator's many. A tenth of all coefficients drawn anew would seldom be one of these few, so that one of them is with
  a chance of a quarter.

A Point tried before teaches nothing: the draw is repeated, with one coefficient more each time. A history holds Points
only; the coefficients behind the best are found again by drawing those of its trial once more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import ClassVar

import numpy as np

from agents.allocation import Allocator
from agents.base import REDRAWS, NumberedAgent
from agents.types import Task, Trial, TrialState
from search_spaces import Point

RANDOM_SHARE = 0.1
"""The part of the trials that are drawn from U(0, 1), up to `MOST_RANDOM`."""

MOST_RANDOM = 100

NEIGHBOURHOOD = 0.1
"""The part of the coefficients that is drawn anew at the start of the local search."""

SPAN = 2.0
"""Orders of magnitude that the coefficients of operators span."""

ALONE = 3.0
"""The coefficient of the one operator that is taken from, as its distance from 1 in parts of `SPAN`: a millionth. That
of the one that is not taken from is a million."""

BETWEEN = 0.25
"""How often the coefficient of an operator is drawn anew."""


class Exact(NumberedAgent):
    """Local search over the coefficients of an exact allocation."""

    uses_sensitivity: ClassVar[bool] = True
    takes_choices: ClassVar[bool] = False

    def __init__(self, task: Task, options: object) -> None:
        super().__init__(task, options)
        self.allocator = Allocator(self.space, self.limits, task.sensitivity)
        self.n = len(self.allocator.knobs)
        names = [knob.operator for knob in self.allocator.knobs]
        shared = dict.fromkeys(names) if len(set(names)) > 1 else {}
        self.operators = [[t for t in range(self.n) if names[t] == name] for name in shared]
        """The knobs of each operator, if there are several."""
        self.best = -math.inf
        self.incumbents = [np.concatenate([np.ones(self.n), np.zeros(len(self.operators))])]
        """The coefficients of the best trial, and of those that were the best before it: [n_knobs + n_operators], those
        of operators as their distance from 1 in parts of `SPAN`."""
        self._tried: set[Point] = set()

    def propose(self, number: int, taken: set[Point]) -> Point | None:
        """The allocation for the first coefficients drawn that gives a new Point; else one tried before."""
        repeat = None
        for coefficients in self.candidates(number, self.incumbents[-1]):
            point = self.allocator.solve(self.weights(coefficients))
            if point not in taken:
                if point not in self._tried:
                    return point
                repeat = repeat or point
        return repeat

    def learn(self, trial: Trial) -> None:
        """Go on from the coefficients behind this trial if it is the best."""
        self._tried.add(trial.point)
        if trial.state in (TrialState.DONE, TrialState.STOPPED) and trial.utility(self.goal) > self.best:
            self.best = trial.utility(self.goal)
            self.incumbents.append(self._behind(trial))

    def candidates(self, number: int, incumbent: np.ndarray) -> Iterator[np.ndarray]:
        """The coefficients, as of `incumbents`, that trial `number` tries one after the other when `incumbent` is the
        best."""
        rng = self.exploring(number)
        if number == 0:
            yield self.incumbents[0]
        elif number <= len(self.sides):
            yield self.sides[number - 1]
        for redraw in range(1 + REDRAWS):
            if number < self.random:
                yield rng.random(self.n + len(self.operators))
                continue
            progress = (number - self.random) / max(self.trials - self.random, 1)
            k = max(round(NEIGHBOURHOOD * self.n * (1 - progress)), 1) + redraw
            drawn = rng.choice(self.n, min(k, self.n), replace=False)
            changed = incumbent.copy()
            changed[drawn] = rng.random(len(drawn))
            if self.operators and rng.random() < BETWEEN:
                changed[self.n + rng.integers(len(self.operators))] = rng.random()
            yield changed

    @cached_property
    def sides(self) -> list[np.ndarray]:
        """Coefficients, as of `incumbents`, that take from one operator alone, and from all but one: where the others,
        or that one, can stay as they are, and with no Point twice."""
        plain = self.incumbents[0]
        found, known = [], {self.allocator.plain()}
        for distance in (ALONE, -ALONE):
            for place, knobs in enumerate(self.operators):
                side = plain.copy()
                side[self.n + place] = distance
                point = self.allocator.solve(self.weights(side))
                spared = knobs if distance < 0 else sorted({*range(self.n)} - {*knobs})
                if point not in known and self.allocator.spares(point, spared):
                    found.append(side)
                    known.add(point)
        return found

    @property
    def random(self) -> int:
        """The first trial of the local search."""
        return 1 + len(self.sides) + min(MOST_RANDOM, int(RANDOM_SHARE * self.trials))

    def weights(self, coefficients: np.ndarray) -> np.ndarray:
        """What each knob's losses are multiplied by: its coefficient times its operator's, [n_knobs]."""
        weights = coefficients[: self.n].copy()
        for knobs, distance in zip(self.operators, coefficients[self.n :], strict=True):
            weights[knobs] *= 10 ** (-SPAN * distance)
        return weights

    def _behind(self, trial: Trial) -> np.ndarray:
        """The coefficients whose allocation the trial's Point is; of a Point never proposed, those of the last best."""
        for incumbent in reversed(self.incumbents):
            for coefficients in self.candidates(trial.number, incumbent):
                if self.allocator.solve(self.weights(coefficients)) == trial.point:
                    return coefficients
        return self.incumbents[-1]

    def diagnostics(self) -> dict[str, float]:
        """How often the best has changed, and how uneven its coefficients are: their standard deviation."""
        return {
            "improvements": len(self.incumbents) - 1.0,
            "coefficient_spread": float(self.incumbents[-1][: self.n].std()),
        }
