"""A study that designs a network in a given time: what it trains, and for how long, is planned when it begins."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from torch import nn

from automl.config.finish import FinishConfig
from automl.config.study import StudyConfig
from automl.config.training import TrainingOptions
from automl.designs.time_plan import LONG, SHORT, TimePlan, batch_size, plan_time
from automl.errors import StudyError
from automl.fit.cell_builder import with_first_weights
from automl.store import Store, StudyNotFoundError
from automl.study.setup import Setup
from automl.study.study import Study
from automl.study.trust import trusted_config
from automl.tasks.image_classes import ImageClasses
from automl.tasks.problem import Problem
from automl.types import Say, silent


def design_config(settings: dict[str, Any], seconds: float, folder: str | None = None) -> StudyConfig:
    """The study that `settings` ask for, before it is known how long anything takes."""
    short = {"training": {"epochs": SHORT, "seconds": seconds}}
    usual = {"space": "cells", "baselines": ["uniform"], "evaluation": short}
    return StudyConfig.from_dict({**usual, **settings}, folder=folder)


def design_study(
    store: Store, asked: StudyConfig, seconds: float, problem: Problem | None = None, *, say: Say = silent
) -> Study:
    """The study `asked` for with its time planned, or gone on with as it was planned if it is in the database.

    `StudyError` if the name is taken by a study that was asked for otherwise.
    """
    began = time.perf_counter()
    try:
        found = trusted_config(store, asked.name)
    except StudyNotFoundError:
        found = None
    if found is not None:
        if found.space.of_cells is None:
            raise StudyError(f"study {asked.name!r} in {store.name} is no design: give this one another name")
        say(f"going on with study {asked.name!r}, as it was planned when it began")
        planned = {key: getattr(found, key) for key in ("evaluation", "finish", "trials", "seconds")}
        return Study(store, replace(asked, **planned), problem, say=say)
    setup = Setup(asked, problem, say=say)
    predicted = setup.evaluator.training_time
    assert predicted is not None
    for line in ImageClasses.of_batches(setup.problem.epochs(TrainingOptions.batch_size)(0)).cautions:
        say(f"note: {line}")
    reference = with_first_weights(setup.space, setup.space.plan(setup.reference))
    validation_s = _validated(setup, reference)
    searches = len(asked.seeds) * len({agent.name for agent, _ in asked.lanes} - {"uniform"})
    left_s = max(seconds - (time.perf_counter() - began), 0.5 * seconds)
    size = TrainingOptions.batch_size
    for _ in range(2):  # the size of batches by the plan, and the plan by that
        each_s = predicted.each_s(reference, setup.problem.example_inputs, size)
        epoch_s = predicted.samples * each_s
        plan = plan_time(left_s, epoch_s, validation_s, searches=max(searches, 1), workers=asked.runner.workers)
        size = batch_size(predicted.samples, plan.trial_s / each_s)
    say(plan.told)
    known = {"training_time": predicted.to_record()}
    return Study(store, _with_plan(asked, plan, size), setup.problem, known=known, say=say)


def _validated(setup: Setup, network: nn.Module) -> float:
    """Seconds that it takes to validate `network`."""
    began = time.perf_counter()
    setup.evaluator.measure(network, setup.problem.validation)
    return time.perf_counter() - began


def _with_plan(asked: StudyConfig, plan: TimePlan, size: int) -> StudyConfig:
    """The study with its plan. The learning rate goes with the size of batches (Goyal et al. 2017, 1706.02677)."""
    training = asked.evaluation.training
    assert training is not None
    rate = training.highest_rate * size / training.batch_size
    short: TrainingOptions = replace(training, seconds=plan.trial_s, batch_size=size, learning_rate=rate)
    long = replace(short, epochs=LONG, seconds=plan.final_s)
    return replace(
        asked,
        trials=plan.trials,
        seconds=plan.search_s,
        evaluation=replace(asked.evaluation, training=short),
        finish=FinishConfig(finalists=1, training=long),
    )
