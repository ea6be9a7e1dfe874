"""Random search on the budget: the baseline every agent has to beat at an equal number of evaluations."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from agents.base import REDRAWS, NumberedAgent
from agents.types import Trial
from search_spaces import Point, Space


def random_point(space: Space, limits: Mapping[str, float], rng: np.random.Generator) -> Point:
    """Keep fractions uniform between each knob's smallest and 1, projected onto the budget.

    Without the projection random networks lie far below the budget (measured for the released AMC: 0.30 of the
    MACs where 0.50 were allowed), which compares small networks with large ones.
    """
    lowest = np.array([knob.least for knob in space.knobs])
    return space.project(rng.uniform(lowest, 1.0), limits)


def new_random_point(
    space: Space, limits: Mapping[str, float], rng: np.random.Generator, known: Collection[Point]
) -> Point | None:
    """The first random Point drawn that is not `known`; None if all of `REDRAWS` more are."""
    points = (random_point(space, limits, rng) for _ in range(1 + REDRAWS))
    return next((point for point in points if point not in known), None)


class RandomSearch(NumberedAgent):
    """Independent random Points on the budget."""

    def propose(self, number: int, taken: set[Point]) -> Point | None:
        """The first Point drawn for trial `number` that is not taken."""
        return new_random_point(self.space, self.limits, self.exploring(number), taken)

    def learn(self, trial: Trial) -> None:
        """Random search learns nothing."""
