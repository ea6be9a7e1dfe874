"""What methods have in common that hold some weights at zero."""

from __future__ import annotations

from typing import Any

from automl.training.methods.base import Course, Method
from automl.training.methods.target import Masks


class Masked(Method):
    """Weights that have gone stay zero: so do their gradients, and they themselves whatever momentum they had."""

    def __init__(self) -> None:
        self._masks = Masks()

    def before_step(self, course: Course) -> None:
        """Gradients of what has gone are zero."""
        self._masks.hold_gradients(course.network)

    def after_step(self, course: Course) -> None:
        """What has gone stays zero."""
        self._masks.hold_weights(course.network)

    def state(self) -> dict[str, Any]:
        """What has gone."""
        return {"kept": self._masks.kept}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._masks = Masks(state["kept"])
