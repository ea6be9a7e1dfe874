"""The sandwich rule: a step trains the largest of some networks that share weights, and smaller ones beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import Tensor

from automl.training.methods.base import Course, Method

Softened = Callable[[Tensor, Tensor, float], Tensor]
"""(outputs, the teacher's, temperature) -> the mean loss."""


class OnCourse(Protocol):
    """A loss that changes as the training goes on."""

    course: Course | None
    """Whose progress says when; None: the training has only begun."""


class TellsCourse(Method):
    """Tells a loss how far the training is."""

    def __init__(self, loss: OnCourse) -> None:
        self._loss = loss

    def begin(self, course: Course) -> None:
        """Hand the course over."""
        self._loss.course = course


def is_late(course: Course | None, distil_from: float | None) -> bool:
    """Whether the part `distil_from` of a training is over; None: it never is."""
    return distil_from is not None and (course.progress if course else 0.0) >= distil_from


def sandwich_loss(
    loss: Callable[[Any, Tensor], Tensor],
    largest: Tensor,
    smaller: Iterable[Tensor],
    targets: Tensor,
    distilled: Softened | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """The mean loss of a batch over some networks, a scalar.

    With `distilled` all but the largest learn what that one says and no targets (Yu & Huang 2019, arXiv 1903.05134,
    section 3.2, in-place distillation). The papers add the losses up; their mean has the same direction and leaves the
    learning rate what it is for one network.

    Args:
        loss: (outputs, targets) -> losses.
        largest: what the largest network makes of the batch.
        smaller: the same of each other one, computed as it is asked for.
        targets: of the batch.
        distilled: what distillation takes, or None.
        temperature: of that.
    """
    losses, reference = [loss(largest, targets).mean()], largest.detach().float()
    for outputs in smaller:
        if distilled is not None:
            losses.append(distilled(outputs, reference, temperature))
        else:
            losses.append(loss(outputs, targets).mean())
    return torch.stack(losses).mean()
