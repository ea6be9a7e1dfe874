"""Which kinds of task there are, and which one a network's outputs are of."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from automl.errors import ConfigError, DataError
from automl.tasks.base import Kind
from automl.tasks.classification import Classification, scores_classes
from automl.tasks.custom import Custom
from automl.tasks.drawn_values import DrawnValues
from automl.tasks.label_free import Embedding, Unlabelled
from automl.tasks.losses import IGNORED, BinaryCrossEntropy
from automl.tasks.metric import Score
from automl.tasks.reading import unlabelled
from automl.tasks.regression import Regression, require_numbers
from automl.tasks.segmentation import Segmentation, require_pixels

NAMED: dict[str, Callable[[], Kind]] = {
    "classification": Classification,
    "segmentation": Segmentation,
    "regression": Regression,
    "signal": DrawnValues,
    "embedding": Embedding,
    "custom": Custom,
}
"""The name of a kind of task -> the kind, to be asked what it is like before there is a problem."""

KINDS = tuple(NAMED.values())
"""Every kind of task with labels or a name."""


def kind_of(
    outputs: Any, targets: Tensor, loss: Score | None, name: str | None = None, void: int | None = None
) -> Kind:
    """The kind of task of a network, from its outputs for a few samples, their targets, its loss and what it is called.

    Unless it has a `name`, outputs that have the shape of class scores for targets that are indices are classification,
    whatever the loss; numbers for numbers, without a loss, are regression. `loss` None: the usual one of the kind.
    `void`: the label that does not count, where that is not the loss's affair. Errors: `DataError`, `ConfigError`.
    """
    headline_of(name or "custom")
    if name == "embedding":
        _require_tensor(outputs)
        return Embedding(loss) if loss is not None else Embedding()
    if unlabelled(targets):
        return Unlabelled(_compared(outputs, loss, name))
    if name is not None:
        return _named(outputs, targets, loss, name, void)
    if scores_classes(outputs, targets):
        return Classification(loss or F.cross_entropy)
    if loss is None and _are_numbers(outputs, targets):
        return Regression()
    return Custom(loss or F.cross_entropy)


def _named(outputs: Any, targets: Tensor, loss: Score | None, name: str, void: int | None) -> Kind:
    """The kind called `name`, for labelled data."""
    usual: Score = F.cross_entropy if void is None else partial(F.cross_entropy, ignore_index=void)
    match name:
        case "classification":
            if not scores_classes(outputs, targets):
                raise DataError(
                    f"classification needs class scores [n, classes, ...] with class indices [n, ...] as targets, got "
                    f"targets {list(targets.shape)} of {targets.dtype}. Give such targets, or another task"
                )
            return Classification(loss or usual, void)
        case "segmentation":
            require_pixels(outputs, targets)
            if loss is None and outputs.shape[1] == 1:
                return Segmentation(BinaryCrossEntropy(IGNORED if void is None else void), void)
            return Segmentation(loss or usual, void)
        case "regression":
            require_numbers(outputs, targets)
            return Regression(loss or F.mse_loss)
        case "signal":
            require_numbers(outputs, targets)
            return DrawnValues(loss or F.mse_loss)
        case _:
            return Custom(loss or F.cross_entropy)


def _compared(outputs: Any, loss: Score | None, name: str | None) -> Kind:
    """The kind by which outputs are compared with the original's, where there are no labels."""
    _require_tensor(outputs)
    if loss is not None or name == "custom":
        raise DataError(
            "a loss needs targets, and the batches are inputs alone: give pairs (inputs, targets), or leave out the "
            "loss and compare with the original by `objective: divergence`"
        )
    return NAMED[name or "regression"]()


def _require_tensor(outputs: Any) -> None:
    if not isinstance(outputs, Tensor):
        raise DataError(
            f"to be compared with the original's, outputs must be one tensor, got {type(outputs).__name__}. Wrap the "
            f"network in one whose forward returns the tensor that matters"
        )


def _are_numbers(outputs: Any, targets: Tensor) -> bool:
    """Whether `targets` are numbers like the outputs, and no shares of classes. `DataError` if all are yes or no."""
    if not isinstance(outputs, Tensor) or outputs.shape != targets.shape or not targets.is_floating_point():
        return False
    shares = targets.ndim > 1 and targets.shape[1] > 1 and bool((targets >= 0).all())
    if shares and bool(((targets.sum(1) - 1).abs() < 1e-3).all()):
        return False
    if ((targets == 0) | (targets == 1)).all():
        raise DataError(
            "expected a loss or a task beside targets that are all 0 or 1, got neither: give "
            "`loss=torch.nn.functional.binary_cross_entropy_with_logits` if each is a yes or no, `task: segmentation` "
            "if they are a mask, or `task: regression` if they are numbers"
        )
    return True


def headline_of(task: str) -> str:
    """The metric by which people judge networks of the kind that is called `task`. Errors: `ConfigError`."""
    if task not in NAMED:
        raise ConfigError(f"expected a task of {', '.join(NAMED)}, got {task!r}")
    return NAMED[task]().headline
