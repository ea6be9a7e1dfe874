"""Which kinds of task there are, and which one a network's outputs are of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from automl.tasks.base import Kind, Score
from automl.tasks.classification import Classification, scores_classes
from automl.tasks.custom import Custom

KINDS: tuple[Callable[[], Kind], ...] = (Classification, Custom)
"""Every kind of task, to be asked what it is like before there is a problem."""


def kind_of(outputs: Any, targets: Tensor, loss: Score) -> Kind:
    """The kind of task of a network, from its outputs for a few samples, their targets and its loss.

    Outputs that have the shape of class scores for targets that are indices are classification, whatever the loss.
    """
    return Classification(loss) if scores_classes(outputs, targets) else Custom(loss)
