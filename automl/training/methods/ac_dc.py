"""AC/DC: phases in which the network is sparse and phases in which it is dense, by turns."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from automl.training.methods.base import ROUNDING, Closure, Course
from automl.training.methods.masked import Masked
from automl.training.methods.target import Masks, Target


class AlternatingCompression(Masked):
    """The network is compressed and decompressed by turns, and is compressed in the end.

    Peste et al. 2021, "AC/DC: Alternating compressed/decompressed training of deep neural networks", arXiv 2106.12379,
    algorithm 1: after a dense warm-up the largest weights are chosen at the beginning of each compressed phase, and the
    others held at zero through it; in a decompressed phase all are trained, those that were gone from zero on. Phases
    between `begins` and `ends` are of one length; from `ends` on the network is compressed for good. Weights are chosen
    in each tensor for itself, as many as the plan says.
    """

    def __init__(self, target: Target, *, begins: float, ends: float, rounds: int) -> None:
        """`rounds`: pairs of a compressed and a decompressed phase before the last compressed one."""
        super().__init__()
        self._target, self._begins, self._ends, self._rounds = target, begins, ends, rounds
        self._phase = -1

    @property
    def _compressed(self) -> bool:
        return self._phase % 2 == 0

    def gradients(self, course: Course, closure: Closure) -> Tensor:
        """Begin a phase if it is time to, then run forward and backward."""
        phase = self._phase_at(course.progress)
        if phase != self._phase:
            self._phase = phase
            self._masks = self._target.largest(course.network) if self._compressed else Masks()
            self._masks.hold_weights(course.network)
        return closure()

    def state(self) -> dict[str, Any]:
        """The phase, and what is gone in it."""
        return {"phase": self._phase, **super().state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        super().restore(state)
        self._phase = state["phase"]

    def end(self, network: nn.Module) -> None:
        """The zeros of this phase, or of the compressed one that would begin now."""
        (self._masks if self._compressed else self._target.largest(network)).hold_weights(network)

    def _phase_at(self, progress: float) -> int:
        """-1 for the warm-up, then 0, 1, ..., 2 rounds; even ones are compressed."""
        if progress < self._begins:
            return -1
        if progress >= self._ends:
            return 2 * self._rounds
        return int((progress - self._begins) / (self._ends - self._begins) * 2 * self._rounds + ROUNDING)
