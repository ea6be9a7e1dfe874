"""The training of a supernet, by the one training loop: killed and started again, it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from automl.config.supernet import SupernetOptions
from automl.config.training import TrainingOptions
from automl.evaluation.training_time import TrainingTime
from automl.fit.cell_builder import with_first_weights
from automl.sharing.path_loss import PathLoss
from automl.sharing.paths import Paths
from automl.tasks.problem import Problem
from automl.training.history import History
from automl.training.loss import smoothed
from automl.training.trainer import train
from automl.types import Say, silent
from search_spaces import Supernet

TIMED = 16
"""How many steps are drawn to predict how long a step takes."""
TELL_EVERY_S = 1.0
"""Seconds between two lines of the training."""


def train_supernet(
    weights: Supernet,
    problem: Problem,
    limits: Mapping[str, float],
    options: SupernetOptions,
    predicted: TrainingTime | None = None,
    *,
    checkpoint: Path | None = None,
    say: Say = silent,
) -> History:
    """Train the networks of a supernet within `limits`, in place.

    Args:
        weights: the supernet; `weights.shown` is the network by which precision and the order of memory are decided.
        problem: the data and the loss.
        limits: cost -> upper limit; larger networks are not trained.
        options: how.
        predicted: how long networks take to train, if the options say how many seconds there are.
        checkpoint: a file that is written after each epoch, from which the training goes on if it is there.
        say: told of each epoch in a line.

    Raises: those of `automl.training.trainer.train`.
    """
    paths = Paths(weights.space, limits, smaller=options.smaller, shrink=options.shrink)
    loss = PathLoss(
        smoothed(problem.loss, options.training.label_smoothing), paths, options, softened=problem.kind.softened
    )
    return train(
        weights,
        problem.epochs(options.training.batch_size),
        loss,
        _in_time(options, paths, problem, predicted),
        checkpoint=checkpoint,
        methods=[loss.method],
        say=say,
        tell_every_s=TELL_EVERY_S,
    )


def _in_time(
    options: SupernetOptions, paths: Paths, problem: Problem, predicted: TrainingTime | None
) -> TrainingOptions:
    """The options of the training with epochs in place of seconds: the networks of a step are predicted to take what
    they take alone."""
    training = options.training
    if training.seconds is None:
        return training
    assert predicted is not None
    each = []
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(training.seed)
        for _ in range(TIMED):
            step = [paths.one(1.0)] if options.rule == "single_path" else paths.sandwich(options.drawn, 1.0)
            networks = (with_first_weights(paths.space, paths.space.plan(point)) for point in step)
            each.append(sum(predicted.each_s(n, problem.example_inputs, training.batch_size) for n in networks))
    return predicted.within(training, float(np.mean(each)))
