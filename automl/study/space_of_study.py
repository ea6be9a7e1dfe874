"""The space of a study, and what judges its networks: those of a network that was given, or made from nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from automl.config.latency import LatencyOptions
from automl.config.space import SpaceConfig
from automl.config.study import StudyConfig
from automl.config.training import TrainingOptions
from automl.evaluation.training_time import TrainingTime, features, found_from
from automl.export.chains import chain_runner
from automl.fit.cell_builder import with_first_weights
from automl.measures.fast_widths import FastStep, fast_step
from automl.measures.pieces import shapes_of
from automl.tasks.problem import Problem
from automl.training.trainer import settle
from automl.types import Say
from search_spaces import NetworkSpace, Searched, pyramid
from search_spaces.operators.options import ChannelsOptions, Options

if TYPE_CHECKING:
    from automl.evaluation import Evaluator
    from automl.tasks.sample_form import SampleForm

FAST_STEP = "fast_step"
"""Under what a study records the step of widths that was measured."""
PROBES = 9
"""How many networks are trained for some batches to learn how long training takes, beside the reference."""
BATCHES = 2
"""Of an epoch; of three such epochs the faster of the last two counts, which others on the machine disturb least."""


def operators_of(
    config: StudyConfig, problem: Problem, recorded: Mapping[str, Any] | None, say: Say
) -> tuple[dict[str, Options], FastStep | None]:
    """The operators that a study searches, and what was measured for them: the step of widths, if it is to be found.

    What is on record is used again: another step would be another space.
    """
    operators, latency, term = config.space.operators, config.latency, config.parsed_budget.latency
    channels = operators.get("channels")
    if latency is None or term is None or not latency.fast_widths or not isinstance(channels, ChannelsOptions):
        return operators, None
    known = (recorded or {}).get(FAST_STEP)
    step = FastStep(**known) if known else _measured_step(latency, term.backend, problem)
    if known is None:
        told = f"saves {1 - step.ratio:.0%} of the time of layers" if step.step > 1 else "saves nothing"
        say(f"widths are multiples of {step.step}: rounding up to them {told} on {term.backend}")
    return {**operators, "channels": replace(channels, round_to=math.lcm(step.step, channels.round_to))}, step


def _measured_step(options: LatencyOptions, backend: str, problem: Problem) -> FastStep:
    """By the network's dearest layer that has no groups."""
    space = NetworkSpace(problem.model, problem.example_inputs, {"channels": None})
    sizes = [(tensor.macs, shape) for tensor, shape in zip(space.basis.terms.tensors, shapes_of(space), strict=True)]
    _, shape = max(((macs, shape) for macs, shape in sizes if shape.groups == 1), default=max(sizes))
    make = chain_runner(backend, options.batch, options.threads)
    return fast_step(make, shape, max(group.size for group in space.groups), options.threads)


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
