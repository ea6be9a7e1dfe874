"""What is compressed and what it is judged by: a trained network and the batches of each split."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl.errors import DataError
from automl.tasks.base import Kind, Score
from automl.tasks.batches import Batch, TrainingBatches, checked, collect
from automl.tasks.kinds import kind_of


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
    training: Callable[[int, int], Iterable[Batch]] | None = None
    """(seed, batch size) -> the batches of one epoch, in random order and augmented; None: nothing can be trained."""
    repeats: bool = False
    """Whether every epoch has the very same samples, so that what a teacher says of them can be remembered."""
    loss: Score = F.cross_entropy
    """(outputs, targets) -> mean loss, a scalar."""
    metrics: Mapping[str, Score] = field(default_factory=dict)
    """Further metrics. Those of the kind are added before them: `loss` always, and `accuracy` where outputs are class
    scores [n, classes, ...]."""
    name: str = ""
    kind: Kind = field(init=False)
    """What the network's outputs mean."""

    def __post_init__(self) -> None:
        self.model = copy.deepcopy(self.model).cpu().eval()
        self.calibration = checked(self.calibration, "calibration")
        self.validation = checked(self.validation, "validation")
        outputs = self._try(self.calibration[0], "calibration")
        self._try(self.validation[0], "validation")
        self.kind = kind_of(outputs, self.calibration[0][1], self.loss)
        self.metrics = {**self.kind.metrics, **self.metrics}

    def epochs(self, batch_size: int) -> Callable[[int], Iterable[Batch]]:
        """Seed -> the batches of one epoch of training. `DataError` if there is no training data to be read anew."""
        if self.training is None:
            raise DataError(
                "to train, the training data must be read once an epoch, and this problem's can be read once in all: "
                "give a list of batches, a DataLoader or another iterable that starts anew, not an iterator"
            )
        training = self.training
        return lambda seed: training(seed, batch_size)

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
        `train_data` should yield what training saw; all of it is read when something is trained, again and again.
        `validation_size` None takes all. `test_data` is not read here.
        """
        return cls(
            model,
            collect(train_data, "training", calibration_size),
            collect(validation_data, "validation", validation_size),
            test=None if test_data is None else partial(collect, test_data, "test", None),
            training=None if isinstance(train_data, Iterator) else TrainingBatches(train_data),
            repeats=isinstance(train_data, Sequence),
            loss=loss or F.cross_entropy,
            name=name or type(model).__name__,
        )


def _example(batch: Batch) -> Batch:
    """Two samples of `batch`, cloned, so that no view drags a whole split along; a lone sample is repeated."""
    inputs, targets = batch
    pick = [0, min(1, len(targets) - 1)]
    return tuple(x[pick].clone() for x in inputs), targets[pick].clone()
