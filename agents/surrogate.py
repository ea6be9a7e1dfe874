"""What agents that model the trials share: random Points first, then the candidate that the model promises most of.

What has been told is only remembered; a model is fitted when a proposal needs it. So a history told again costs one fit
and not one a trial, and asking changes nothing.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from agents.base import REDRAWS, Counts, NumberedAgent
from agents.candidates import Acquisition, RandomPoint, best_candidate
from agents.random_search import random_point
from agents.types import Task, Trial
from search_spaces import Point


@dataclass(frozen=True)
class SurrogateOptions(Counts):
    """What may be set."""

    startup: int | None = None
    """Random Points before anything is modelled; by default a tenth of the trials planned, from 5 to 20."""
    candidates: int = 1000
    """How many Points are judged for each that is proposed."""
    incumbents: int = 10
    """How many of the best trials are mutated."""


class Surrogate(NumberedAgent):
    """A subclass says what Points promise, given all that has been told."""

    Options: ClassVar[type] = SurrogateOptions

    def __init__(self, task: Task, options: SurrogateOptions) -> None:
        super().__init__(task, options)
        self.startup = options.startup or min(max(self.trials // 10, 5), 20)
        self.candidates, self.incumbents = options.candidates, options.incumbents
        self.random: RandomPoint = random_point
        """Draws the first Points, and restarts."""
        self.fills_budget = True
        """Whether what is proposed has to use the budget up."""
        self.learnt: list[tuple[Point, float]] = []
        """Every Point with a value, and its utility. Stopped trials count with their estimates."""
        self._tried: set[Point] = set()

    def propose(self, number: int, taken: set[Point]) -> Point | None:
        """A random Point at first, then the best candidate; None if all that were drawn have been tried."""
        rng, known = self.exploring(number), self._tried | taken
        if number < self.startup or len(self.learnt) < 2:
            return next((point for point in self.first(number, rng) if point not in known), None)
        acquisition = self.acquisition(number, sorted(taken, key=lambda point: point.key), rng)
        return best_candidate(
            self.space,
            self.limits,
            self.parents(),
            known,
            acquisition,
            self.candidates,
            rng,
            restart=self.random,
            filled=self.fills_budget,
        )

    def first(self, number: int, rng: np.random.Generator) -> Iterator[Point]:
        """What trial `number` may try before anything is modelled: random Points."""
        for _ in range(1 + REDRAWS):
            yield self.random(self.space, self.limits, rng)

    def parents(self) -> list[Point]:
        """The trials that are mutated, the best first."""
        best_first = sorted(self.learnt, key=lambda pair: -pair[1])[: self.incumbents]
        return [point for point, _ in best_first]

    def learn(self, trial: Trial) -> None:
        """Remember the trial; a failed or infeasible one only not to try it again."""
        self._tried.add(trial.point)
        if self.valued(trial):
            self.learnt.append((trial.point, trial.utility(self.goal)))

    @abstractmethod
    def acquisition(self, number: int, pending: Sequence[Point], rng: np.random.Generator) -> Acquisition:
        """What trial `number` judges candidates by while `pending` are running, given `learnt`: two or more."""


def standardised(utilities: Sequence[float]) -> np.ndarray:
    """`utilities` less their mean, in standard deviations: [n]; zeros if all are equal."""
    y = np.array(utilities, dtype=np.float64)
    standard: np.ndarray = (y - y.mean()) / (y.std() or 1.0)
    return standard
