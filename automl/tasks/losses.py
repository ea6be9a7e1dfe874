"""What is known of a loss: how its mean over a whole split is made of samples, and which labels it leaves out.

PyTorch's losses average over what counts: cross-entropy over labels that are not ignored, weighted by class. Such a
mean over a split is no mean of the means over its batches, but the sum of all totals over the sum of all weights.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl.errors import DataError
from automl.tasks.metric import Metric, Score, weighted_mean

IGNORED = -100
"""The label that cross-entropy leaves out unless it is told another."""

LABELLED = {nn.CrossEntropyLoss: F.cross_entropy, nn.NLLLoss: F.nll_loss}
"""The losses of class indices, as modules and as functions."""


def label_options(loss: Score) -> Mapping[str, Any] | None:
    """The options of a cross-entropy or negative log-likelihood, however it is written; None: it is another loss."""
    if isinstance(loss, partial):
        return loss.keywords if loss.func in LABELLED.values() and not loss.args else None
    if type(loss) in LABELLED:
        names = ("weight", "ignore_index", "label_smoothing", "reduction")
        return {name: getattr(loss, name) for name in names if hasattr(loss, name)}
    return {} if loss in LABELLED.values() else None


def is_cross_entropy(loss: Score) -> bool:
    """Whether `loss` is PyTorch's cross-entropy, with options or without."""
    function = LABELLED.get(type(loss), getattr(loss, "func", loss))
    return function is F.cross_entropy and label_options(loss) is not None


def ignored_label(loss: Score) -> int:
    """The label that `loss` leaves out; of an unknown loss that of cross-entropy, which is no class anyway."""
    return int((label_options(loss) or {}).get("ignore_index", IGNORED))


def counted(labels: Tensor, ignored: int) -> Tensor:
    """How many labels of each sample count: [n, ...] -> [n], float64."""
    return (labels != ignored).reshape(len(labels), -1).sum(1).double()


def require_labels(targets: Tensor, classes: int, loss: Score, void: int | None) -> None:
    """Raise `DataError` unless each of `targets` is an index of a class, or what does not count: `void`, or what `loss`
    leaves out."""
    if not len(targets) or (int(targets.min()) >= 0 and int(targets.max()) < classes):
        return
    left_out = {ignored_label(loss)} | ({void} if void is not None else set())
    found = {int(label) for label in targets.unique()} - left_out
    strange = sorted(label for label in found if not 0 <= label < classes)
    if strange:
        names = ", ".join(map(str, strange[:5])) + (", ..." if len(strange) > 5 else "")
        raise DataError(
            f"labels must be whole numbers from 0 to {classes - 1}, as the outputs have {classes} classes, got "
            f"{names}. Correct them, or say which does not count: task: {{name: ..., ignore_index: {strange[0]}}}"
        )


def loss_metric(loss: Score) -> Metric:
    """The loss as a metric, exact over batches where it is PyTorch's or has `statistics` of its own: [n, 2].

    The statistics of a sample are its total and its weight. A loss that PyTorch sums over a batch is told a sample. Any
    other loss is as it is, the mean over each batch.
    """
    own = getattr(loss, "statistics", None)
    if own is not None:
        return Metric(statistics=own, value=weighted_mean)
    found = _unreduced(loss)
    if found is None:
        return Metric(loss)
    elements, reduction = found
    return Metric(statistics=partial(_statistics, loss, elements, reduction), value=weighted_mean)


def _unreduced(loss: Any) -> tuple[Score, str] | None:
    """PyTorch's `loss` with a value for each of its elements, and how it reduces them; None: it is not PyTorch's."""
    known = ("mean", "sum", "none")
    if isinstance(loss, nn.Module):
        reduction = str(getattr(loss, "reduction", ""))
        if type(loss).__module__ != "torch.nn.modules.loss" or reduction not in known:
            return None
        elements = copy.copy(loss)
        vars(elements)["reduction"] = "none"
        return elements, reduction
    function = loss.func if isinstance(loss, partial) else loss
    if getattr(function, "__module__", "") != "torch.nn.functional" or getattr(loss, "args", ()):
        return None
    parameter = inspect.signature(function).parameters.get("reduction")
    if parameter is None:
        return None
    reduction = str(getattr(loss, "keywords", {}).get("reduction", parameter.default))
    return (partial(loss, reduction="none"), reduction) if reduction in known else None


def _statistics(loss: Score, elements: Score, reduction: str, outputs: Any, targets: Tensor) -> Tensor:
    """Of each sample the total of its elements, and their weight: [n, 2]."""
    values = elements(outputs, targets).double()
    totals = values.reshape(len(values), -1).sum(1)
    return torch.stack([totals, _weights(loss, reduction, values, targets)], 1)


def _weights(loss: Score, reduction: str, values: Tensor, targets: Tensor) -> Tensor:
    """What each sample weighs in the mean: [n]. `values`: of the elements of each, [n, ...]."""
    if reduction == "sum":
        return torch.ones(len(values), dtype=torch.float64)
    options = label_options(loss)
    if options is None or targets.is_floating_point():
        return torch.full((len(values),), float(values[0].numel()), dtype=torch.float64)
    ignored = ignored_label(loss)
    weight = options.get("weight")
    if weight is None:
        return counted(targets, ignored)
    counts = targets != ignored
    of_labels: Tensor = weight.double()[targets.masked_fill(~counts, 0)] * counts
    return of_labels.reshape(len(targets), -1).sum(1)


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """The cross-entropy of one channel of logits with a mask of zeros and ones, a mean over all pixels that count."""

    ignored: int = IGNORED
    """The value of the mask where a pixel does not count."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean over pixels, a scalar; `targets` are numbers or indices, with or without a channel."""
        values, counts = self._pixels(outputs, targets)
        return values.sum() / counts.sum()

    def statistics(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Of each sample the total over its pixels and how many count: [n, 2]."""
        parts: list[Tensor] = [part.flatten(1).sum(1).double() for part in self._pixels(outputs, targets)]
        return torch.stack(parts, 1)

    def _pixels(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The cross-entropy of each pixel, 0 where it does not count, and whether it does: [n, 1, ...] each."""
        mask = targets.reshape(outputs.shape)
        counts = mask != self.ignored
        values = F.binary_cross_entropy_with_logits(
            outputs, mask.masked_fill(~counts, 0).to(outputs.dtype), reduction="none"
        )
        return values * counts, counts
