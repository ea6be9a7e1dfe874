"""Uniform: one keep fraction for every knob, the largest the budget allows. The searchless baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from agents.base import NumberedAgent
from agents.types import Trial
from search_spaces import Point, Space


def uniform_point(space: Space, limits: Mapping[str, float]) -> Point:
    """The same keep fraction everywhere, the largest that the limits allow; half of everything without limits."""
    return space.project(np.full(len(space.knobs), 1.0 if limits else 0.5), limits)


class Uniform(NumberedAgent):
    """Keeps the same fraction of every group; what rounding leaves of the budget is used up evenly."""

    max_trials: ClassVar[int | None] = 1

    def propose(self, number: int, taken: set[Point]) -> Point | None:
        """The one Point of this rule, for trial 0 only."""
        return self.space.project(np.ones(len(self.space.knobs)), self.limits) if number == 0 else None

    def learn(self, trial: Trial) -> None:
        """A rule learns nothing."""
