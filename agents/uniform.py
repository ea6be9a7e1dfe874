"""Uniform: one keep fraction for every knob, the largest the budget allows. The searchless baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from agents.base import NumberedAgent
from agents.types import Trial
from search_spaces import Point, Space


def uniform_point(space: Space, limits: Mapping[str, float]) -> Point:
    """The same keep fraction everywhere, the largest that the limits allow; half of everything without limits.

    Choices stand as in the reference.
    """
    return space.project(_even(space, 1.0 if limits else 0.5), limits)


def _even(space: Space, keep: float) -> np.ndarray:
    """`keep` for every knob, but for a choice what stands for the reference's level: [n_knobs]."""
    levels = space.original_levels.tolist()
    pairs = zip(space.knobs, levels, strict=True)
    return np.array([knob.keep(level) if knob.kind == "choice" else keep for knob, level in pairs])


class Uniform(NumberedAgent):
    """Keeps the same fraction of every group; what rounding leaves of the budget is used up evenly."""

    max_trials: ClassVar[int | None] = 1

    def propose(self, number: int, taken: set[Point]) -> Point | None:
        """The one Point of this rule, for trial 0 only."""
        return self.space.project(_even(self.space, 1.0), self.limits) if number == 0 else None

    def learn(self, trial: Trial) -> None:
        """A rule learns nothing."""
