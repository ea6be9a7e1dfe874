"""A study that designs a network in a given time: what it trains, how and for how long is planned when it begins.

That hangs on the data, which are read first: numbers that are to be told have an objective of their own, and rows of a
table are learnt by Adam, since widths, norms and dropout vary there as they do not among networks for images.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from torch import nn

from automl.config.finish import FinishConfig
from automl.config.study import StudyConfig
from automl.config.task import TaskConfig
from automl.config.training import TrainingOptions, of_new_weights
from automl.designs.time_plan import LONGER, SHORT, TimePlan, batch_size, plan_time, short_epochs
from automl.errors import StudyError
from automl.fit.cell_builder import with_first_weights
from automl.store import Store, StudyNotFoundError
from automl.study.loading import load_problem
from automl.study.setup import Setup
from automl.study.study import Study
from automl.study.trust import trusted_config
from automl.tasks.objectives import usual_objective
from automl.tasks.problem import Problem
from automl.tasks.sample_form import SampleForm
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
        planned = {key: getattr(found, key) for key in PLANNED}
        return Study(store, replace(asked, **planned), problem, say=say)
    problem = problem or load_problem(asked)
    form = SampleForm.of_batches(problem.epochs(TrainingOptions.batch_size)(0))
    say(f"the data: {form.told}; {sum(len(y) for _, y in problem.validation):,} more to judge networks by")
    for line in form.cautions:
        say(f"note: {line}")
    asked = suited(asked, form)
    setup = Setup(asked, problem, say=say)
    predicted = setup.evaluator.training_time
    assert predicted is not None
    reference = with_first_weights(setup.space, setup.space.plan(setup.reference))
    validation_s = _validated(setup, reference)
    searches = len(asked.seeds) * len({agent.name for agent, _ in asked.lanes} - {"uniform"})
    left_s = max(seconds - (time.perf_counter() - began), 0.5 * seconds)
    size = TrainingOptions.batch_size
    for _ in range(2):  # the size of batches by the plan, and the plan by that
        each_s = predicted.each_s(reference, setup.problem.example_inputs, size)
        epoch_s = predicted.samples * each_s
        plan = plan_time(
            left_s,
            epoch_s,
            validation_s,
            epochs=short_epochs(predicted.samples),
            searches=max(searches, 1),
            workers=asked.runner.workers,
        )
        size = batch_size(predicted.samples, plan.trial_s / each_s)
    say(plan.told)
    known = {"training_time": predicted.to_record()}
    return Study(store, _with_plan(asked, plan, size), setup.problem, known=known, say=say)


PLANNED = ("evaluation", "finish", "trials", "seconds", "task", "objective")
"""What of a study is not asked for but follows from the data and the time."""


def suited(asked: StudyConfig, form: SampleForm) -> StudyConfig:
    """The study `asked` for with what suits such data where it says nothing: task, objective and training.

    Rows are often so few that a network knows them by heart after some epochs: of a training the best one's weights
    are kept, as is usual for tables (Gorishniy et al. 2021, section 4.3).
    """
    if form.numbers and asked.task is None:
        task = form.judged["task"]
        objective = usual_objective(task) if asked.objective == StudyConfig.objective else asked.objective
        asked = replace(asked, task=TaskConfig(task), objective=objective)
    training = asked.evaluation.training
    assert training is not None
    if form.size == () and training.optimizer == TrainingOptions.optimizer:
        own = of_new_weights({"optimizer": "adamw", "weight_decay": 0.01, "keep": "best"})
        asked = replace(asked, evaluation=replace(asked.evaluation, training=replace(training, **own)))
    return asked


def _validated(setup: Setup, network: nn.Module) -> float:
    """Seconds that it takes to validate `network`."""
    began = time.perf_counter()
    setup.evaluator.measure(network, setup.problem.validation)
    return time.perf_counter() - began


def _with_plan(asked: StudyConfig, plan: TimePlan, size: int) -> StudyConfig:
    """The study with its plan. The learning rate goes with the size of batches (Goyal et al. 2017, 1706.02677), under
    Adam with its root (Malladi et al. 2022, arXiv 2205.10287)."""
    training = asked.evaluation.training
    assert training is not None
    rate = training.highest_rate * (size / training.batch_size) ** (0.5 if training.optimizer == "adamw" else 1.0)
    short: TrainingOptions = replace(
        training, epochs=plan.epochs, seconds=plan.trial_s, batch_size=size, learning_rate=round(rate, 6)
    )
    long = replace(short, epochs=LONGER * plan.epochs, seconds=plan.final_s)
    return replace(
        asked,
        trials=plan.trials,
        seconds=plan.search_s,
        evaluation=replace(asked.evaluation, training=short),
        finish=FinishConfig(finalists=1, training=long),
    )
