"""Random search on the budget: the baseline every agent has to beat at an equal number of evaluations."""

from __future__ import annotations

from collections.abc import Mapping

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


class RandomSearch(NumberedAgent):
    """Independent random Points on the budget."""

    def propose(self, number: int, taken: set[Point]) -> Point | None:
        """The first Point drawn for trial `number` that is not taken."""
        rng = self.exploring(number)
        for _ in range(1 + REDRAWS):
            point = random_point(self.space, self.limits, rng)
            if point not in taken:
                return point
        return None

    def learn(self, trial: Trial) -> None:
        """Random search learns nothing."""
