"""What is compressed and what it is judged by: a trained network and the batches of each split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from automl.errors import DataError
from automl.tasks.base import Kind
from automl.tasks.batches import Batch, TrainingBatches, checked, collect
from automl.tasks.imitation import Imitation
from automl.tasks.kinds import kind_of
from automl.tasks.metric import Metric, Score, as_metric
from automl.tasks.misleading import require_telling
from automl.tasks.reading import Reader, has_fields, unlabelled, with_forward
from search_spaces.graph.prepare import copied_model, unwrapped

FEW = 16
"""How many samples show what kind of task a network has."""


def usual_loss(outputs: Any, targets: Tensor) -> Tensor:
    """Stand for the usual loss of a kind of task until that is known; it cannot be called."""
    raise NotImplementedError


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
    loss: Score = usual_loss
    """(outputs, targets) -> mean loss, a scalar; if it is not given, the usual one of the kind."""
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    """Further metrics: functions, `Metric`s, accumulators. Those of the kind are added before them."""
    name: str = ""
    task: str | Kind | None = None
    """The kind of task, by name or itself; None: as outputs, targets and loss tell (`kind_of`)."""
    void: int | None = None
    """The label that does not count, for a kind that is named; None: what the loss leaves out."""
    names: Mapping[str, Any] = field(default_factory=dict)
    """What inputs and targets are called: plain data, which goes with what is exported."""
    kind: Kind = field(init=False)
    """What the network's outputs mean."""

    def __post_init__(self) -> None:
        self.model = unwrapped(self.model)
        read = Reader(self.model)
        self.calibration = checked(self.calibration, "calibration", read)
        self.validation = checked(self.validation, "validation", read)
        self.model = copied_model(read.fitted(self.model)).cpu().eval()
        given = None if self.loss is usual_loss else self.loss
        outputs = self._outputs(_first(self.calibration[0], FEW), "calibration")
        if has_fields(outputs) or (given is None and isinstance(outputs, dict)):
            self.model = with_forward(self.model, main_only=True)
            outputs = self.model(*_first(self.calibration[0], FEW)[0])
        self.kind = self._kind(outputs, given)
        self.loss = self.kind.loss
        self._require_fitting(self.calibration, "calibration")
        self._require_fitting(self.validation, "validation")
        if self.kind.imitates:
            self._imitate()
        else:
            require_telling(self.model, self.loss, self.calibration[0])
        if self.kind.imitates or self._kind(outputs, self.loss) != self.kind:
            self.task = self.kind  # so that a copy of this problem, with data as they are now, has the same
        own = {name: as_metric(name, metric) for name, metric in self.metrics.items()}
        self.metrics = {**self.kind.metrics, **own}

    def _kind(self, outputs: Any, loss: Score | None) -> Kind:
        """What the outputs mean: as the user says, or as they look."""
        if self.task is not None and not isinstance(self.task, str):
            return self.task
        targets = _first(self.calibration[0], FEW)[1]
        kind = kind_of(outputs, targets, loss, self.task, self.void)
        parts = {unlabelled(found) for _, found in (*self.calibration, *self.validation)}
        if len(parts) > 1 and not isinstance(self.task, str):
            raise DataError(
                "all calibration and validation batches must have targets, or none, but some are inputs alone. Give "
                "pairs (inputs, targets) everywhere, or leave the targets out"
            )
        return kind

    def _require_fitting(self, batches: Sequence[Batch], split: str) -> None:
        """Raise `DataError` for a batch that network or loss cannot take, and for a label that is of no class, wherever
        in a split it comes."""
        for batch in _forms(batches):
            if self.kind.imitates:
                self._outputs(batch, split)
            else:
                self._try(batch, split)
        outputs = self._outputs(_example(self.calibration[0]), "calibration")
        for number, (_, targets) in enumerate(batches, start=1):
            try:
                self.kind.require_labels(outputs, targets)
            except DataError as error:
                raise DataError(f"batch {number} of the {split} data: {error}") from None

    def _imitate(self) -> None:
        """Let the network's own outputs be the targets of all batches."""
        imitation = Imitation(self.model)
        self.calibration = imitation.batches(self.calibration)
        self.validation = imitation.batches(self.validation)
        if self.test is not None:
            self.test = imitation.of_test(self.test)
        if self.training is not None:
            self.training = imitation.of_training(self.training)

    def read_test(self) -> list[Batch]:
        """The test batches, none if there are none; to be called once, when the search is over. Errors: `DataError`."""
        if self.test is None:
            return []
        batches = self.test()
        self._require_fitting(batches, "test")
        return batches

    def unit(self, metric: str) -> str:
        """What `metric` is shown in: `%` for a rate, "" for anything else."""
        return self.metrics[metric].unit if metric in self.metrics else ""

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

    def _outputs(self, batch: Batch, split: str) -> Any:
        """The outputs for the samples of `batch`; a forward that fails is a `DataError`."""
        inputs, _ = batch
        shapes = ", ".join(str(list(x.shape)) for x in inputs)
        try:
            with torch.no_grad():
                return self.model(*inputs)
        except Exception as error:
            raise DataError(
                f"the network's forward must accept the {split} data, but inputs of shape {shapes} and dtype "
                f"{inputs[0].dtype} raised {type(error).__name__}: {error}. "
                f"Give batches as the network was trained on"
            ) from error

    def _try(self, batch: Batch, split: str) -> None:
        """Run network and loss on `batch`; what fails is a `DataError`."""
        outputs, (_, targets) = self._outputs(batch, split), batch
        try:
            self.loss(outputs, targets)
        except Exception as error:
            raise DataError(
                f"the loss must accept the network's outputs and the {split} targets, but targets of shape "
                f"{list(targets.shape)} and dtype {targets.dtype} raised {type(error).__name__}: {error}. "
                f"Pass a `loss` that fits{_hint(outputs)}, or targets as class indices"
            ) from error

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
        metrics: Mapping[str, Any] | None = None,
        task: str | Kind | None = None,
        void: int | None = None,
        name: str = "",
    ) -> Problem:
        """A problem from any iterables of batches, [n, ...] each: pairs (x, y), or what else a `Reader` takes.

        The first `calibration_size` training samples serve calibration and batch-norm recalibration alike, so
        `train_data` should yield what training saw; all of it is read when something is trained, again and again.
        `validation_size` None takes all. `test_data` is not read here.
        """
        read = Reader(unwrapped(model))
        calibration = collect(train_data, "training", calibration_size, read)
        return cls(
            read.fitted(model),
            calibration,
            collect(validation_data, "validation", validation_size, read),
            test=None if test_data is None else partial(collect, test_data, "test", None, read),
            training=None if isinstance(train_data, Iterator) else TrainingBatches(train_data, read),
            repeats=isinstance(train_data, Sequence),
            loss=loss or usual_loss,
            metrics=metrics or {},
            name=name or type(model).__name__,
            task=task,
            void=void,
        )


def _first(batch: Batch, samples: int) -> Batch:
    """The first `samples` samples of `batch`."""
    inputs, targets = batch
    return tuple(x[:samples] for x in inputs), targets[:samples]


def _forms(batches: Iterable[Batch]) -> list[Batch]:
    """Two samples of each form in which batches come: the shapes of a sample and the types."""
    found: dict[Any, Batch] = {}
    for inputs, targets in batches:
        form = tuple((x.shape[1:], x.dtype) for x in (*inputs, targets))
        if form not in found:
            found[form] = _example((inputs, targets))
    return list(found.values())


def _example(batch: Batch) -> Batch:
    """Two samples of `batch`, cloned, so that no view drags a whole split along; a lone sample is repeated."""
    inputs, targets = batch
    pick = [0, min(1, len(targets) - 1)]
    return tuple(x[pick].clone() for x in inputs), targets[pick].clone()


def _hint(outputs: Any) -> str:
    """What fits outputs of one channel."""
    one = isinstance(outputs, Tensor) and outputs.ndim > 1 and outputs.shape[1] == 1
    return ", for one channel binary_cross_entropy_with_logits," if one else ""
