"""What the loss is multiplied by in float16, so that small gradients are not rounded to zero."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

FIRST = 2.0**16
"""The scale at the start: far too high as a rule, and halved as often as it takes in the first step."""
GROWS_AFTER = 2000
"""The scale is doubled after so many steps in a row whose gradients were finite."""


class LossScale:
    """Finds the largest power of two whose gradients are finite, as the training goes on.

    Dynamic loss scaling (Micikevicius et al. 2018, "Mixed precision training", arXiv 1710.03740, section 3.2), with the
    values of `torch.amp.GradScaler`. That leaves out a step whose gradients overflow; here they are computed again with
    half the scale, so that methods see finite gradients alone and no step of their schedules is missing.
    """

    def __init__(self) -> None:
        self.value = FIRST
        self.finite_steps = 0
        """In a row, since the scale changed."""

    def undo(self, parameters: Sequence[Tensor], loss: Tensor) -> bool:
        """Divide gradients by the scale; False if they must be computed again, with what the scale is then.

        Where nothing is left to halve, or the loss is not finite itself, they stay as they are: the fault is another.
        """
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for gradient in gradients:
            gradient /= self.value
        if all(bool(gradient.isfinite().all()) for gradient in gradients):
            self.finite_steps += 1
            if self.finite_steps == GROWS_AFTER:
                self.value, self.finite_steps = 2 * self.value, 0
            return True
        if self.value <= 1 or not bool(loss.isfinite()):
            return True
        self.value, self.finite_steps = self.value / 2, 0
        return False

    def state(self) -> dict[str, float]:
        """What a checkpoint holds of it."""
        return {"value": self.value, "finite_steps": self.finite_steps}

    def restore(self, state: dict[str, float]) -> None:
        """Go on from what `state` gave."""
        self.value, self.finite_steps = state["value"], int(state["finite_steps"])
