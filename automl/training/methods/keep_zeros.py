"""Weights that are zero stay zero while the others are trained."""

from __future__ import annotations

from collections.abc import Iterable

from automl.training.methods.base import Course, Method
from automl.training.methods.target import Masks


class KeepZeros(Method):
    """Gradients of zeros are set to zero; decay and momentum of zero are zero."""

    def __init__(self, names: Iterable[str]) -> None:
        """`names`: parameters, whose zeros at the beginning are those to keep."""
        self._names = list(names)
        self._masks = Masks()

    def begin(self, course: Course) -> None:
        """Note which weights are zero."""
        self._masks = Masks.of_nonzero(course.network, self._names)

    def before_step(self, course: Course) -> None:
        """Set gradients of zeros to zero."""
        self._masks.hold_gradients(course.network)
