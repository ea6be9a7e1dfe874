"""`design`: data and a budget in, a trained network out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from automl.api import CompressionResult, searched
from automl.config.model import IN_MEMORY
from automl.config.study import StudyConfig
from automl.data.order import strata, stratified_order
from automl.data.splits import MOST_VALIDATION, SIXTH
from automl.designs.planned import design_config, design_study
from automl.designs.time_plan import require_enough
from automl.errors import ConfigError, DataError
from automl.lanes.progress import Progress
from automl.study.space_of_study import cells_for, example_network
from automl.tasks.batches import Batch, checked
from automl.tasks.problem import Problem
from automl.tasks.sample_form import SampleForm
from automl.util.duration import seconds_of
from automl.util.no_exit import no_exit

CALIBRATION = 128
"""Samples on which the ranges of 8-bit activations are found."""


@no_exit()
def design(
    train_data: Iterable[Any],
    validation_data: Iterable[Any] | None = None,
    budget: str | Sequence[str] = "params <= 100k",
    *,
    time: str | float = "30m",
    test_data: Iterable[Any] | None = None,
    space: Mapping[str, Any] | None = None,
    agent: str | Mapping[str, Any] | None = None,
    baselines: Sequence[str] = ("uniform",),
    seed: int = 0,
    workers: int = 1,
    storage: str | Path | None = None,
    name: str = "design",
    progress: bool = True,
) -> CompressionResult:
    """Search a network for `train_data` within `budget`, train it, and return it, all within `time`.

    Args:
        train_data: batches `(x, y)`, x float images [n, channels, height, width], signals [n, channels, length] or rows
            of a table [n, columns], y whole numbers of classes [n], or numbers in floating point [n, how many]. They
            are read once an epoch. Signals, tables and numbers may be in any unit: the network standardises them.
        validation_data: batches by which networks are judged; None: a sixth of the training data, at most 5,000, which
            are then held in memory.
        budget: such as `["params <= 60k", "macs <= 5M"]`; `"size <= 200 KB"` is of the file. A percentage is of the
            largest network of the first kind.
        time: `"30m"`, `"2h"`, `"90s"`, or seconds: for everything. Half of it trains the network that is returned and
            the hand-made one of the same budget that it is compared with.
        test_data: batches on which networks are measured once, at the end.
        space: what networks may be, as the section `space.cells` of a study file: `{"kinds": ["mobile"]}`.
        agent: the search agent; None: `predictor`.
        baselines: agents beside it; `random` has as much time as the agent, and its best a training as long.
        workers: above 1 the short trainings are a Ray Tune sweep.
        storage: a database URL or file that keeps the trials; by default they are forgotten. With it, calling again
            goes on where the last call was stopped.
        name: the study's name in it.
        progress: whether to tell on standard error how far it is.

    Raises: AutomlError, SpaceError, InfeasibleBudgetError, AgentError.
    """
    seconds = seconds_of(time) if isinstance(time, str) else float(time)
    require_enough(seconds)
    settings = {
        "name": name,
        "model": IN_MEMORY,
        "data": {"name": IN_MEMORY, "calibration_size": CALIBRATION},
        "space": {"cells": space or {}},
        "budget": budget,
        "agent": agent or {},
        "baselines": baselines,
        "seeds": [seed],
        "runner": {"workers": workers},
    }
    asked = design_config(settings, seconds)
    problem = problem_of(asked, train_data, validation_data, test_data)
    return searched(
        lambda store, say: design_study(store, asked, seconds, problem, say=say),
        storage,
        Progress(asked.goal, quiet=not progress),
    )


def problem_of(
    asked: StudyConfig, train: Iterable[Any], validation: Iterable[Any] | None, test: Iterable[Any] | None
) -> Problem:
    """The data, with a network of the space that takes them."""
    if isinstance(train, str | Path):
        raise ConfigError(f"expected batches (x, y), got {str(train)!r}: for data by name there is `automl design`")
    if validation is None:
        train, validation = held_out(checked(train, "training"))
    elif not isinstance(train, Sequence) and iter(train) is train:
        raise DataError("the training data must be read once an epoch: give a list of batches or a DataLoader")
    form = SampleForm.of_batches(checked(train, "training") if isinstance(train, Sequence) else _read(train))
    network = example_network(cells_for(asked.space, form))
    return Problem.from_iterables(
        network, train, validation, test, calibration_size=CALIBRATION, name="the data given", **form.judged
    )


def _read(train: Iterable[Any]) -> Iterable[Batch]:
    """The batches of a loader, one after the other."""
    for item in train:
        yield from checked([item], "training")


def held_out(batches: Sequence[Batch]) -> tuple[list[Batch], list[Batch]]:
    """The batches without, and those of, a sixth of the samples, at most `MOST_VALIDATION`, of each class its share."""
    inputs = [torch.cat(parts) for parts in zip(*(inputs for inputs, _ in batches), strict=True)]
    targets = torch.cat([targets for _, targets in batches])
    count = min(len(targets) // SIXTH, MOST_VALIDATION)
    if targets.ndim not in (1, 2) or not count:
        raise DataError(
            f"validation data can be held out of 6 samples or more with one label each, or numbers [n, how many], got "
            f"targets of shape {list(targets.shape)}: give validation_data"
        )
    order = torch.from_numpy(stratified_order(strata(targets), 0))
    size = max(len(part) for _, part in batches)

    def taken(index: Tensor) -> list[Batch]:
        return [(tuple(x[part] for x in inputs), targets[part]) for part in index.split(size)]

    return taken(order[count:]), taken(order[:count])
