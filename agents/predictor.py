"""The default for spaces of choices: Thompson sampling on a regression over knobs, among mutations of the best trials.

On tables of architectures a linear model of one-hot knobs whose candidates are mutations of the best few found the top
in fewer evaluations than anything else; that mutations and not the model are the larger part is known of BANANAS too
(Schneider et al. 2021, arXiv 2107.07343). So:

- `startup` random Points first.
- What was told counts by its rank, as the normal quantile z of that: a few networks that learn nothing would otherwise
  be all that there is to explain.
- A Bayesian regression of z (`agents.bayesian`) knows what single levels are worth and what knobs do together.
- A trial draws one function from the posterior and tries the candidate that is best by it (Thompson 1933). Trials that
  run at the same time draw their own, and so keep apart.

Candidates change a knob or two (`agents.candidates.CHANGES` on average) of the best `incumbents` trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import ndtri

from agents.bayesian import Columns, Regression
from agents.candidates import Acquisition
from agents.networks import one_thread
from agents.surrogate import Surrogate, SurrogateOptions, standardised
from agents.types import Task
from search_spaces import Point

JITTER = 1e-6
"""Variance that a draw has beside that of the posterior, as a part of the largest."""


@dataclass(frozen=True)
class PredictorOptions(SurrogateOptions):
    """What may be set."""

    candidates: int = 200
    """How many Points are judged for each that is proposed."""
    incumbents: int = 5
    """How many of the best trials are mutated."""


class Predictor(Surrogate):
    """The candidate that is best by a draw from what is known."""

    Options: ClassVar[type] = PredictorOptions

    def __init__(self, task: Task, options: PredictorOptions) -> None:
        super().__init__(task, options)
        self.columns = Columns(self.space)
        self._fitted: tuple[int, Regression] | None = None

    def model(self) -> Regression:
        """The regression on all that has been told."""
        if self._fitted is None or self._fitted[0] != self.told:
            points, utilities = zip(*self.learnt, strict=True)
            with one_thread():
                self._fitted = self.told, Regression(self.columns(points), warped(utilities))
        return self._fitted[1]

    def acquisition(self, number: int, pending: Sequence[Point], rng: np.random.Generator) -> Acquisition:
        """A function drawn from the posterior."""
        return _Draw(self.model(), self.columns, rng)


class _Draw:
    """One function drawn from a posterior, known where it has been asked for."""

    def __init__(self, model: Regression, columns: Columns, rng: np.random.Generator) -> None:
        self.model, self.columns, self.rng = model, columns, rng
        self.points: list[Point] = []
        self.values = np.zeros(0)

    def __call__(self, points: Sequence[Point]) -> np.ndarray:
        """Its values: [n]."""
        known = set(self.points)
        new = [point for point in dict.fromkeys(points) if point not in known]
        if new:
            with one_thread():
                self._extend(new)
        place = {point: i for i, point in enumerate(self.points)}
        found: np.ndarray = self.values[[place[point] for point in points]]
        return found

    def _extend(self, new: list[Point]) -> None:
        """Draw the values at `new`, given those that it has."""
        n = len(self.points)
        self.points += new
        mean, covariance = self.model(self.columns(self.points))
        jitter = JITTER * max(float(np.diag(covariance).max()), 1e-9)
        root = np.linalg.cholesky(covariance + jitter * np.eye(len(self.points)))
        normal = np.linalg.solve(root[:n, :n], self.values - mean[:n])
        normal = np.concatenate([normal, self.rng.standard_normal(len(new))])
        self.values = np.concatenate([self.values, (mean + root @ normal)[n:]])


def warped(utilities: Sequence[float]) -> np.ndarray:
    """The quantiles of a normal distribution at the ranks of utilities, standardised: [n]."""
    u = np.array(utilities)
    ranks = (u[:, None] > u).sum(axis=1) + ((u[:, None] == u).sum(axis=1) + 1) / 2  # of equals the mean
    return standardised(ndtri((ranks - 0.5) / len(u)).tolist())
