"""What is compressed and what it is judged by: a trained network and the batches of each split."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl.errors import DataError

Batch = tuple[tuple[Tensor, ...], Tensor]
"""Inputs of the network's forward, each [n, ...], and the targets, [n, ...]."""

Metric = Callable[[Any, Tensor], Tensor]
"""(outputs, targets) -> one value a sample, [n, ...], or the mean over the batch, a scalar."""


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Whether the most likely class is right: [n], from [n, classes]; for dense targets a fraction a sample."""
    return (outputs.argmax(1) == targets).float()


@dataclass
class Problem:
    """A trained network and its data. Checked once, here: a wrong batch or a failing forward is a `DataError`.

    The network is copied, moved to the CPU and set to eval mode, so the caller's stays as it is.
    """

    model: nn.Module
    calibration: list[Batch]
    """Training samples without augmentation, for least squares and for activation statistics."""
    validation: list[Batch]
    """Samples held out of training: what a search optimises."""
    recalibration: Callable[[int], list[Batch]] | None = None
    """seed -> training batches, augmented as in training, for batch-norm statistics; None: `calibration`."""
    test: Callable[[], list[Batch]] | None = None
    """The test batches, to be touched once, when the search is over."""
    loss: Callable[[Any, Tensor], Tensor] = F.cross_entropy
    """(outputs, targets) -> mean loss, a scalar."""
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    """Further metrics. `loss` is always added, and `accuracy` where outputs are class scores [n, classes, ...]."""
    name: str = ""

    def __post_init__(self) -> None:
        self.model = copy.deepcopy(self.model).cpu().eval()
        self.calibration = _checked(self.calibration, "calibration")
        self.validation = _checked(self.validation, "validation")
        outputs = self._try(self.calibration[0], "calibration")
        self._try(self.validation[0], "validation")
        own: dict[str, Metric] = {"loss": _a_value_each(self.loss)}
        if _scores_classes(outputs, self.calibration[0][1]):
            own = {"accuracy": accuracy, **own}
        self.metrics = {**own, **self.metrics}

    @property
    def example_inputs(self) -> tuple[Tensor, ...]:
        """The first two samples of the first calibration batch, cloned: a tuple of [2, ...]."""
        return _example(self.calibration[0])[0]

    def _try(self, batch: Batch, split: str) -> Any:
        """The outputs for two samples of `batch`; a forward or loss that fails is a `DataError`."""
        inputs, targets = _example(batch)
        shapes = ", ".join(str(list(x.shape)) for x in inputs)
        try:
            with torch.inference_mode():
                outputs = self.model(*inputs)
        except Exception as error:
            raise DataError(
                f"the network's forward must accept the {split} data, but inputs of shape {shapes} and dtype "
                f"{inputs[0].dtype} raised {type(error).__name__}: {error}. "
                f"Give batches as the network was trained on"
            ) from error
        try:
            self.loss(outputs, targets)
        except Exception as error:
            raise DataError(
                f"the loss must accept the network's outputs and the {split} targets, but targets of shape "
                f"{list(targets.shape)} and dtype {targets.dtype} raised {type(error).__name__}: {error}. "
                f"Pass a `loss` that fits, or targets as class indices"
            ) from error
        return outputs

    @classmethod
    def from_iterables(
        cls,
        model: nn.Module,
        train_data: Iterable[Any],
        validation_data: Iterable[Any],
        test_data: Iterable[Any] | None = None,
        *,
        calibration_size: int = 512,
        validation_size: int | None = None,
        loss: Callable[[Any, Tensor], Tensor] | None = None,
        name: str = "",
    ) -> Problem:
        """A problem from any iterables of `(x, y)` batches, x a tensor or a tuple of tensors, [n, ...] each.

        The first `calibration_size` training samples serve calibration and batch-norm recalibration alike, so
        `train_data` should yield what training saw. `validation_size` None takes all. `test_data` is not read here.
        """
        return cls(
            model,
            _collect(train_data, "training", calibration_size),
            _collect(validation_data, "validation", validation_size),
            test=None if test_data is None else partial(_collect, test_data, "test", None),
            loss=loss or F.cross_entropy,
            name=name or type(model).__name__,
        )


def _collect(data: Iterable[Any], split: str, size: int | None) -> list[Batch]:
    """The first `size` samples of `data` (None: all), batch by batch, the last batch cropped."""
    if size is not None and size < 1:
        raise DataError(f"the size of the {split} data must be at least 1, got {size}")
    if isinstance(data, Tensor) or not isinstance(data, Iterable):
        raise DataError(
            f"the {split} data must be an iterable of (x, y) batches, got {type(data).__name__}. "
            f"Wrap tensors as [(x, y)] or use a DataLoader"
        )
    batches: list[Batch] = []
    left = size
    for item in data:
        inputs, targets = _batch(item, split)
        batches.append((tuple(x[:left] for x in inputs), targets[:left]))
        if left is not None:
            left -= min(left, len(targets))
            if not left:
                break
    return _checked(batches, split)


def _checked(batches: Iterable[Any], split: str) -> list[Batch]:
    checked = [_batch(item, split) for item in batches]
    if not checked:
        raise DataError(f"the {split} data must have at least one batch, got none. Is the iterable used up?")
    return checked


def _batch(item: Any, split: str) -> Batch:
    """`item` as a Batch, or a `DataError` that says what is wrong with it."""
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        what = f"{type(item).__name__} of {len(item)}" if isinstance(item, (tuple, list)) else type(item).__name__
        raise DataError(f"a {split} batch must be a pair (x, y), got {what}. Map your batches to (x, y) first")
    x, targets = item
    inputs = tuple(x) if isinstance(x, (tuple, list)) else (x,)
    strange = [type(part).__name__ for part in (*inputs, targets) if not isinstance(part, Tensor)]
    if strange or not inputs:
        raise DataError(
            f"the x and y of a {split} batch must be tensors (x may be a tuple of them), "
            f"got {strange[0] if strange else 'no input'}. Convert them with torch.as_tensor"
        )
    sizes = [part.shape[0] if part.ndim else 0 for part in (*inputs, targets)]
    if len(set(sizes)) != 1 or not sizes[0]:
        raise DataError(
            f"the x and y of a {split} batch must have the same number of samples, at least 1, along their first "
            f"dimension, got shapes {[list(part.shape) for part in (*inputs, targets)]}"
        )
    if any(part.is_floating_point() and part.isnan().any() for part in inputs):
        raise DataError(f"the x of a {split} batch must hold numbers, got NaN. Clean or impute the data first")
    return inputs, targets


def compact(batches: Iterable[Batch]) -> list[Batch]:
    """`batches` without views: pickled, each view would take its whole storage along."""

    def own(x: Tensor) -> Tensor:
        return x if x.untyped_storage().nbytes() == x.nbytes else x.clone()

    return [(tuple(own(x) for x in inputs), own(targets)) for inputs, targets in batches]


def _example(batch: Batch) -> Batch:
    """Two samples of `batch`, cloned, so that no view drags a whole split along; a lone sample is repeated."""
    inputs, targets = batch
    pick = [0, min(1, len(targets) - 1)]
    return tuple(x[pick].clone() for x in inputs), targets[pick].clone()


def _scores_classes(outputs: Any, targets: Tensor) -> bool:
    if not isinstance(outputs, Tensor) or targets.is_floating_point():
        return False
    return outputs.ndim == targets.ndim + 1 and outputs.shape[2:] == targets.shape[1:]


def _a_value_each(loss: Callable[[Any, Tensor], Tensor]) -> Metric:
    """Cross-entropy a sample instead of its mean, so that its standard error is known; other losses as they are."""
    return partial(F.cross_entropy, reduction="none") if loss is F.cross_entropy else loss
