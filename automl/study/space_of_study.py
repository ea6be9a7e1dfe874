"""The space of a study, and what judges its networks: those of a network that was given, or made from nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from automl.config.space import SpaceConfig
from automl.config.training import TrainingOptions
from automl.evaluation.training_time import TrainingTime, features, found_from
from automl.fit.cell_builder import with_first_weights
from automl.training.trainer import settle
from search_spaces import Searched, pyramid

if TYPE_CHECKING:
    from automl.evaluation import Evaluator
    from automl.tasks.sample_form import SampleForm

PROBES = 9
"""How many networks are trained for some batches to learn how long training takes, beside the reference."""
BATCHES = 2
"""Of an epoch; of three such epochs the faster of the last two counts, which others on the machine disturb least."""


def cells_for(config: SpaceConfig, form: SampleForm) -> Searched:
    """The space of networks for such samples."""
    assert config.of_cells is not None
    return pyramid(config.of_cells, form.frame, form.scales)


def example_network(space: Searched) -> nn.Module:
    """The smallest network of a space of cells with its first weights: by which data are checked."""
    lowest = space.point([knob.levels[0] for knob in space.knobs])
    return with_first_weights(space, space.plan(lowest))


def measured_training_time(evaluator: Evaluator, options: TrainingOptions) -> TrainingTime:
    """How long networks of the evaluator's space take to train with `options`, within its limits, on this machine."""
    space, problem, limits = evaluator.space, evaluator.problem, evaluator.limits
    rng = np.random.default_rng(0)
    drawn = [space.project(rng.random(len(space.knobs)), limits) for _ in range(PROBES)]
    reference = space.plan(space.reference(limits))
    options = settle(with_first_weights(space, reference), problem.epochs(options.batch_size), options)
    few = replace(options, epochs=3, samples=BATCHES * options.batch_size, seconds=None, keep="last")
    rows, seconds = [], []
    for point in dict.fromkeys([space.reference(limits), *drawn]):
        network = with_first_weights(space, space.plan(point))
        rows.append(features(network, problem.example_inputs, options.batch_size))
        timed = evaluator.train(network, point, few).epochs[1:]
        seconds.append(min(epoch.wall_s / epoch.samples for epoch in timed))
    samples = sum(len(targets) for _, targets in problem.epochs(options.batch_size)(0))
    return found_from(np.array(rows), np.array(seconds), samples)
