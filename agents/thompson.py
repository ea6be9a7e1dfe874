"""Exact allocation with coefficients learnt by Bayesian regression and drawn by Thompson sampling.

The problem is SPDY's (`agents.exact`): error curves of single knobs, each to be multiplied by an unknown coefficient.
SPDY's search learns from a trial only whether it is the best; but if losses add up, every measured value is an
equation between the coefficients of all knobs:

    -utility = b + sum over knobs t of c_t * loss_t(level_t) + noise,    c_t ~ N(m, (SPREAD * m)^2), noise ~ N(0, s^2)

A trial draws c from its posterior given all trials, and tries the exact allocation for it (`agents.allocation`); so
it is led by what is known, and strays where little is (Thompson 1933; for combinatorial problems with linear payoff,
Wang & Chen 2018, arXiv 1803.04623). m and s are those of a grid under which the values told are likeliest. Where losses
do not add up, s becomes large and the draws stay near the prior: a random search around the plain allocation.

Trial 0 is that plain allocation, the next `FIRST` are drawn from a prior wide enough to tell coefficients apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from agents.allocation import Allocator
from agents.base import REDRAWS, NumberedAgent
from agents.types import Task, Trial
from search_spaces import Point

SPREAD = 0.7
"""Prior standard deviation of a coefficient, as a part of their mean: curves are right up to a factor of 2 or 3."""

FIRST = 4
"""Trials after the first before anything is learnt."""

LOWEST = 0.05
"""The smallest coefficient allocated for, as a part of the mean: a loss cannot be negative, or nothing at all."""

MEANS = (0.1, 0.2, 0.4, 0.7, 1.0, 1.4, 2.0, 3.0)
"""Candidates for m, in units of the slope between the spreads of values and of summed curves."""

NOISES = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Candidates for s, in standard deviations of the values."""


class Thompson(NumberedAgent):
    """Exact allocations for coefficients drawn from what the trials so far leave possible."""

    uses_sensitivity: ClassVar[bool] = True
    takes_choices: ClassVar[bool] = False

    def __init__(self, task: Task, options: object) -> None:
        super().__init__(task, options)
        self.allocator = Allocator(self.space, self.limits, task.sensitivity)
        self.unit = float(self._losses(self.allocator.plain()).sum()) or 1.0
        """The summed loss of the plain allocation, in which losses are measured."""
        self.posterior: Posterior | None = None
        self._rows: list[np.ndarray] = []  # of each trial with a value, the losses of its levels: [n_knobs]
        self._values: list[float] = []
        self._tried: set[Point] = set()

    def propose(self, number: int, taken: set[Point]) -> Point | None:
        """The allocation for the first coefficients drawn that gives a new Point; else one tried before."""
        rng = self.exploring(number)
        repeat = None
        for redraw in range(1 + REDRAWS):
            point = self.allocator.solve(self.coefficients(number, redraw, rng))
            if point not in taken:
                if point not in self._tried:
                    return point
                repeat = repeat or point
        return repeat

    def coefficients(self, number: int, redraw: int, rng: np.random.Generator) -> np.ndarray:
        """What trial `number` multiplies the losses by, if `redraw` draws led nowhere new: [n_knobs]."""
        n = len(self.allocator.knobs)
        if number == redraw == 0:
            return np.ones(n)
        if self.posterior is None:
            return np.exp(rng.normal(0.0, SPREAD, n))
        return self.posterior.draw(rng, 1 + redraw / 5)

    def learn(self, trial: Trial) -> None:
        """Take the trial's value, if it has one, into the regression."""
        self._tried.add(trial.point)
        if not self.valued(trial):
            return
        self._rows.append(self._losses(trial.point) / self.unit)
        self._values.append(-trial.utility(self.goal))
        if len(self._rows) > FIRST:
            self.posterior = regress(self._rows, self._values)

    def diagnostics(self) -> dict[str, float]:
        """Mean and spread of the coefficients, and the noise, in units of the goal's metric; empty at first."""
        if self.posterior is None:
            return {}
        spread = float(self.posterior.mean.std())
        return {"coefficient": self.posterior.level, "coefficient_spread": spread, "noise": self.posterior.noise}

    def _losses(self, point: Point) -> np.ndarray:
        """The loss of each knob at its level in `point`: [n_knobs]."""
        return self.allocator.losses.each(self.allocator.indices(point))


@dataclass(frozen=True)
class Posterior:
    """What is known of the coefficients: a normal distribution."""

    mean: np.ndarray
    """[n_knobs]"""
    root: np.ndarray
    """The Cholesky factor of the precision of b and the coefficients, lower: [1 + n_knobs, 1 + n_knobs]."""
    level: float
    """m, about which the coefficients were thought to lie."""
    noise: float
    """s, in the unit of the values."""

    def draw(self, rng: np.random.Generator, width: float) -> np.ndarray:
        """One draw, `width` times as far from the mean as usual, none below `LOWEST`: [n_knobs]."""
        away = np.linalg.solve(self.root.T, rng.normal(size=len(self.root)))[1:]
        return np.maximum(self.mean + width * away, LOWEST * self.level)


def regress(rows: Sequence[np.ndarray], values: Sequence[float]) -> Posterior:
    """The posterior of the coefficients given losses, n_trials times [n_knobs], and values: [n_trials]."""
    losses, y = np.array(rows), np.array(values)
    n, n_knobs = losses.shape
    summed = losses.sum(axis=1)
    y = y - y.mean()  # b takes it up
    spread = y.std() or 1.0
    slope = spread / (summed.std() or 1.0)
    design = np.column_stack([np.ones(n), losses])
    moments = design.T @ design
    likeliest, posterior = -math.inf, None
    for level in slope * np.array(MEANS):
        rest = y - level * summed  # what the coefficients' differences from their mean have to explain
        prior = np.concatenate([[(100 * spread) ** 2], np.full(n_knobs, (SPREAD * level) ** 2)])
        for noise in spread * np.array(NOISES):
            root = np.linalg.cholesky(np.diag(1 / prior) + moments / noise**2)
            explained = np.linalg.solve(root, design.T @ rest / noise**2)
            # The logarithm of the marginal likelihood of the values, up to a constant.
            evidence = (explained @ explained - rest @ rest / noise**2) / 2
            evidence -= np.log(np.diag(root)).sum() + n * math.log(noise) + np.log(prior).sum() / 2
            if evidence > likeliest:
                likeliest = evidence
                mean = level + np.linalg.solve(root.T, explained)[1:]
                posterior = Posterior(mean, root, float(level), float(noise))
    assert posterior is not None
    return posterior
