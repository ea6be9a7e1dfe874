"""From the names in a study file to a network and its data."""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from automl.config.model import IN_MEMORY, DataConfig
from automl.config.study import StudyConfig
from automl.config.task import TaskConfig
from automl.data import load, names
from automl.errors import ConfigError, DataError, ModelError, StudyError
from automl.tasks.metric import directed
from automl.tasks.problem import Problem
from automl.util.names import nearest
from automl.util.own_code import named_function
from automl.zoo import Preprocessing, load_model, load_weights, preprocessing

DEFAULT_VALIDATION_SIZE = 1000

Hub = Callable[[], Preprocessing | None]
"""What the model's hub says of its inputs, asked only if somebody wants to know."""


def load_problem(config: StudyConfig) -> Problem:
    """The network and the data that `config` names. Errors: `ModelError`, `DataError`, `StudyError`.

    Data named `module:function` is what the function, called with the options, returns: a mapping with the
    iterables of batches `train` and `validation`, and `test` if there is one. If it has an argument `preprocessing`, it
    is given how the model's hub has inputs made (None of a model of no hub).
    """
    if IN_MEMORY in (config.model.name, config.data.name):
        raise StudyError(
            f"study {config.name!r} compresses a network that was handed over in Python. Go on with it there: "
            f"automl.compress(..., name={config.name!r}, storage=...)"
        )
    if config.folder is not None and config.folder not in sys.path:
        sys.path.insert(0, config.folder)  # where `module:function` lies
    name, options, folder = config.model.name, config.model.options, config.folder
    model = load_model(name, options, config.model.weights, folder)
    hub = partial(preprocessing, name, model, options, folder)
    judged = _judged(config)
    if ":" in config.data.name:
        return _own_data(config.data, model, judged, hub)
    return _built_in(config.data, model, judged, hub)


def _judged(config: StudyConfig) -> dict[str, Any]:
    """What the study says of task, loss and metrics, as arguments of a problem."""
    task = config.task or TaskConfig()
    judged: dict[str, Any] = {"task": task.name, "void": task.ignore_index}
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


def _built_in(data: DataConfig, model: nn.Module, judged: Mapping[str, Any], hub: Hub) -> Problem:
    if data.name not in names():
        raise DataError(
            f"unknown data set {data.name!r}{nearest(data.name, names())}, or your own as 'module:function'"
        )
    prepared = hub() if data.preprocessing == "model" else None
    if prepared is None and data.preprocessing == "model":
        raise DataError(
            f"data.preprocessing: model needs a model of a hub, such as timm:resnet18, that knows its own; "
            f"{type(model).__name__} comes without one. Leave the key out"
        )
    splits = load(
        data.name,
        root=data.root,
        validation_size=data.validation_size or DEFAULT_VALIDATION_SIZE,
        calibration_size=data.calibration_size,
        batch_size=data.batch_size,
        split_seed=data.split_seed,
        augment=data.augment,
        cutout=data.cutout or 0,
        preprocessing=prepared,
    )
    return Problem(
        model,
        splits.calibration,
        splits.validation,
        splits.recalibration,
        splits.test,
        splits.training,
        repeats=not data.augment and not data.cutout,
        name=f"{data.name} data",
        **judged,
    )


def _own_data(data: DataConfig, model: nn.Module, judged: Mapping[str, Any], hub: Hub) -> Problem:
    options = dict(data.options)
    asked = inspect.signature(named_function(data.name, "data")).parameters
    if "preprocessing" in asked and "preprocessing" not in options:
        options["preprocessing"] = hub()
    made = _call(data.name, options, "data")
    expected = "a mapping with `train` and `validation` (and perhaps `test`), each an iterable of batches (x, y)"
    if not isinstance(made, Mapping) or not {"train", "validation"} <= made.keys():
        got = f"a mapping with {', '.join(map(str, made))}" if isinstance(made, Mapping) else type(made).__name__
        raise DataError(f"{data.name} must return {expected}, got {got}")
    return Problem.from_iterables(
        model,
        made["train"],
        made["validation"],
        made.get("test"),
        calibration_size=data.calibration_size,
        validation_size=data.validation_size,
        name=data.name,
        **judged,
    )


def _call(spec: str, options: Mapping[str, Any], what: str) -> Any:
    """What the function `spec` returns. Errors: `ConfigError`, `DataError`."""
    function = named_function(spec, what)
    try:
        return function(**options)
    except Exception as error:
        raise DataError(f"{spec} called with options {dict(options)} raised {type(error).__name__}: {error}") from error
