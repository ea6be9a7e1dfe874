"""Gradual magnitude pruning: the smallest weights go bit by bit while the others are trained."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from automl.training.methods.base import Closure, Course
from automl.training.methods.masked import Masked
from automl.training.methods.target import Target


class GradualPruning(Masked):
    """Every few steps the smallest weights of each tensor go, many at first, then ever fewer.

    Zhu & Gupta 2017, "To prune, or not to prune", arXiv 1710.01878, equation 1: from step t0 on, every D steps, the
    sparsity becomes s_f + (s_i - s_f) (1 - (t - t0) / (n D))^3, here with s_i = 0: at the part x of the way from
    `begins` to `ends` the share 1 - (1 - x)^3 of all zeros is there. What has gone stays away.
    """

    def __init__(self, target: Target, *, begins: float, ends: float, every: int) -> None:
        super().__init__()
        self._target, self._begins, self._ends, self._every = target, begins, ends, every
        self._share = 0.0

    def gradients(self, course: Course, closure: Closure) -> Tensor:
        """Prune if it is time to, then run forward and backward."""
        share = self._due(course)
        if share is not None:
            self._share = share
            self._masks = self._target.largest(course.network, self._target.part(course.network, share))
            self._masks.hold_weights(course.network)
        return closure()

    def state(self) -> dict[str, Any]:
        """What has gone, and how far that is."""
        return {"share": self._share, **super().state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        super().restore(state)
        self._share = state["share"]

    def end(self, network: nn.Module) -> None:
        """All zeros there are to be: those settled, or the smallest weights."""
        (self._masks if self._share == 1.0 else self._target.largest(network)).hold_weights(network)

    def _due(self, course: Course) -> float | None:
        """The share of zeros that is to be there from this step on; None: as before."""
        if course.progress >= self._ends:
            return 1.0 if self._share < 1.0 else None
        if course.progress < self._begins or course.done % self._every:
            return None
        return 1.0 - (1.0 - (course.progress - self._begins) / (self._ends - self._begins)) ** 3
