"""Prune and tune in rounds, each of which goes back to an earlier learning rate, or to earlier weights as well."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from automl.training.methods.base import ROUNDING, Closure, Course
from automl.training.methods.masked import Masked
from automl.training.methods.target import Target
from automl.util.weights import copied, live, put


class IterativePruning(Masked):
    """Each round begins by removing the smallest weights, the same part of what is left, and trains the others.

    Renda, Frankle & Carbin 2020, "Comparing rewinding and fine-tuning in neural network pruning", arXiv 2003.02389:
    with learning-rate rewinding the weights go on and the schedule of the learning rate begins anew
    (the trainer sees to that); with weight rewinding all weights, norms and statistics go back to what they were early
    in the first round as well. Back to its very beginning these are lottery tickets (Frankle & Carbin 2019, arXiv
    1803.03635, section 1). In the end d of a tensor's weights remain, after the k-th of K prunings d^(k / K). What the
    optimizer remembers is forgotten with each pruning.
    """

    def __init__(self, target: Target, *, rounds: int, rewind: str, first: str, early: float) -> None:
        """`rounds`: how many, of equal length. `first`: whether the first begins with a pruning ("prune") or is dense
        ("train"). `rewind`: "rate" or "weights". `early`: the part of the first round after which the weights are noted
        that are gone back to."""
        super().__init__()
        self._target, self._rounds = target, rounds
        self._offset = 1 if first == "prune" else 0
        self._early_at = early / rounds if rewind == "weights" else None
        self._early: list[Tensor] = []
        self._pruned = 0

    @property
    def _prunings(self) -> int:
        return self._rounds - 1 + self._offset

    def gradients(self, course: Course, closure: Closure) -> Tensor:
        """Prune where a round begins, then run forward and backward."""
        network = course.network
        if self._early_at is not None and not self._early and course.progress >= self._early_at:
            self._early = copied(live(network))
        wanted = int(course.progress * self._rounds + ROUNDING) + self._offset
        if wanted > self._pruned:
            self._pruned = wanted
            self._masks = self._target.largest(network, self._target.power(network, wanted / self._prunings))
            if self._early:
                put(self._early, network)
            self._masks.hold_weights(network)
            course.optimizer.state.clear()
        return closure()

    def state(self) -> dict[str, Any]:
        """What has gone, in how many prunings, and the early weights."""
        return {"pruned": self._pruned, **super().state(), "early": self._early}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        super().restore(state)
        self._pruned, self._early = state["pruned"], state["early"]

    def end(self, network: nn.Module) -> None:
        """All zeros there are to be: those settled, or the smallest weights."""
        (self._masks if self._pruned == self._prunings else self._target.largest(network)).hold_weights(network)
