"""From the names in a study file to a network and its data."""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from torch import nn

from automl.config.model import EXPORTED, IN_MEMORY, DataConfig
from automl.config.study import StudyConfig
from automl.config.task import TaskConfig
from automl.data import load, names
from automl.data.held_rows import RowSplits
from automl.data.own_rows import rows_of
from automl.data.sources import OWN
from automl.data.splits import usual_validation
from automl.errors import ConfigError, DataError, ModelError, StudyError
from automl.export import load as load_export
from automl.study.space_of_study import cells_for, example_network
from automl.tasks.batches import TrainingBatches
from automl.tasks.metric import directed
from automl.tasks.problem import Problem
from automl.tasks.sample_form import SampleForm
from automl.util.names import nearest
from automl.util.own_code import named_function
from automl.zoo import Preprocessing, load_model, load_weights, preprocessing

DEFAULT_VALIDATION_SIZE = 1000

Network = Callable[[Callable[[], SampleForm]], nn.Module]
"""What tells what the data are, asked only if it must be known -> the network."""

Judged = dict[str, Any]
"""Task, loss and metrics that a study names, as arguments of a `Problem`."""

Hub = Callable[[], Preprocessing | None]
"""What the model's hub says of its inputs, asked only if somebody wants to know."""


def load_problem(config: StudyConfig) -> Problem:
    """The network and the data that `config` names. Errors: `ModelError`, `DataError`, `StudyError`.

    Data named `module:function` is what the function, called with the options, returns: a mapping with the
    iterables of batches `train` and `validation`, and `test` if there is one. If it has an argument `preprocessing`, it
    is given how the model's hub has inputs made (None of a model of no hub).
    """
    if IN_MEMORY in (config.model.name, config.data.name):
        call = "compress" if config.space.of_cells is None else "design"
        raise StudyError(
            f"study {config.name!r} is of what was handed over in Python. Go on with it there: "
            f"automl.{call}(..., name={config.name!r}, storage=...)"
        )
    if config.folder is not None and config.folder not in sys.path:
        sys.path.insert(0, config.folder)  # where `module:function` lies
    judged = _judged(config)
    network, hub = _made(config) if config.space.of_cells is not None else _given(config)
    data = config.data
    if ":" in data.name:
        return _own_data(data, network, judged, hub, made=config.space.of_cells is not None)
    if (problem := _of_rows(data, network, judged)) is not None:
        return problem
    if data.validation_size is None and data.name not in OWN and config.space.of_cells is None:
        data = replace(data, validation_size=DEFAULT_VALIDATION_SIZE)
    return _built_in(data, network, judged, hub)


def _given(config: StudyConfig) -> tuple[Network, Hub]:
    """The network that the study names, and what its hub says of inputs."""
    name, options, folder = config.model.name, config.model.options, config.folder
    if name == EXPORTED:
        assert config.model.weights is not None
        exported = load_export(config.model.weights)
        return lambda form: exported, lambda: None
    model = load_model(name, options, config.model.weights, folder)
    return lambda form: model, partial(preprocessing, name, model, options, folder)


def _made(config: StudyConfig) -> tuple[Network, Hub]:
    """A network that is made for the data, and no hub."""
    return lambda form: example_network(cells_for(config.space, form())), lambda: None


def _judged(config: StudyConfig) -> Judged:
    """What the study says of task, loss and metrics, as arguments of a problem."""
    task = config.task or TaskConfig()
    judged: Judged = {"task": task.name, "void": task.ignore_index}
    if task.metrics is not None:
        made = _call(task.metrics, {}, "task.metrics")
        if not isinstance(made, Mapping):
            raise ConfigError(f"{task.metrics} must return a mapping of metrics by name, got {type(made).__name__}")
        judged["metrics"] = directed(made, config.objective, config.direction)
    if config.loss is not None:
        judged["loss"] = named_function(config.loss, "loss")
    return judged


def load_early(config: StudyConfig, model: nn.Module) -> nn.Module | None:
    """`model` with the weights that it had early in its own training, if stages are rewound to them. Errors:
    `ModelError`."""
    stages = config.finish.stages
    if stages is None or stages.rewind_to is None:
        return None
    early = copy.deepcopy(model)
    try:
        load_weights(early, Path(stages.rewind_to))
    except ModelError as error:
        raise ModelError(f"finish.stages.rewind_to: {error}") from error
    return early


def _with_usual(judged: Judged, form: SampleForm) -> Judged:
    """What a study says of task and loss, and where it says nothing what the targets tell."""
    if judged["task"] in (None, form.judged["task"]):
        return {**form.judged, **{key: value for key, value in judged.items() if value is not None}}
    return judged


def _of_rows(data: DataConfig, network: Network, judged: Judged) -> Problem | None:
    """The problem of rows or signals in a file of the user's own; None: the data are no such file."""
    own = rows_of(data.name, data.root, data.target, judged["task"], data.split_seed)
    if own is None:
        return None
    splits = RowSplits.of(
        own,
        validation_size=data.validation_size or usual_validation(len(own.train)),
        calibration_size=data.calibration_size,
        batch_size=data.batch_size,
        split_seed=data.split_seed,
    )
    form = SampleForm.of(splits.train.x, splits.train.y, splits.classes)
    return Problem(
        network(lambda: form),
        splits.calibration,
        splits.validation,
        test=None if splits.test is None else splits.read_test,
        training=splits.training,
        repeats=True,
        name=f"{data.name} data",
        names=splits.names,
        **_with_usual(judged, form),
    )


def _built_in(data: DataConfig, network: Network, judged: Judged, hub: Hub) -> Problem:
    if data.name not in names():
        raise DataError(
            f"unknown data set {data.name!r}{nearest(data.name, names())}, or your own as 'module:function'"
        )
    prepared = hub() if data.preprocessing == "model" else None
    if prepared is None and data.preprocessing == "model":
        raise DataError(
            "data.preprocessing: model needs a model of a hub, such as timm:resnet18, that knows its own; this one "
            "comes without. Leave the key out"
        )
    splits = load(
        data.name,
        root=data.root,
        validation_size=data.validation_size,
        calibration_size=data.calibration_size,
        batch_size=data.batch_size,
        split_seed=data.split_seed,
        augment=data.augment,
        cutout=data.cutout or 0,
        preprocessing=prepared,
        image_size=data.image_size,
    )
    return Problem(
        network(lambda: SampleForm.of(splits.calibration[0][0][0], splits.train.labels, splits.classes)),
        splits.calibration,
        splits.validation,
        splits.recalibration,
        splits.test,
        splits.training,
        repeats=not data.augment and not data.cutout,
        name=f"{data.name} data",
        **judged,
    )


def _own_data(data: DataConfig, network: Network, judged: Judged, hub: Hub, *, made: bool) -> Problem:
    """The problem of what the user's function returns; `made`: the network is made for it, and so is the loss."""
    options = dict(data.options)
    asked = inspect.signature(named_function(data.name, "data")).parameters
    if "preprocessing" in asked and "preprocessing" not in options:
        options["preprocessing"] = hub()
    given = _call(data.name, options, "data")
    expected = "a mapping with `train` and `validation` (and perhaps `test`), each an iterable of batches (x, y)"
    if not isinstance(given, Mapping) or not {"train", "validation"} <= given.keys():
        got = f"a mapping with {', '.join(map(str, given))}" if isinstance(given, Mapping) else type(given).__name__
        raise DataError(f"{data.name} must return {expected}, got {got}")
    form = cache(lambda: SampleForm.of_batches(TrainingBatches(given["train"])(0, data.batch_size)))
    return Problem.from_iterables(
        network(form),
        given["train"],
        given["validation"],
        given.get("test"),
        calibration_size=data.calibration_size,
        validation_size=data.validation_size,
        name=data.name,
        **(_with_usual(judged, form()) if made else judged),
    )


def _call(spec: str, options: Mapping[str, Any], what: str) -> Any:
    """What the function `spec` returns. Errors: `ConfigError`, `DataError`."""
    function = named_function(spec, what)
    try:
        return function(**options)
    except Exception as error:
        raise DataError(f"{spec} called with options {dict(options)} raised {type(error).__name__}: {error}") from error
