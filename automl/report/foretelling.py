"""How long each phase of a study takes on this machine, and how much memory: foretold from a few steps of each."""

from __future__ import annotations

import copy
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
from torch import nn

import agents
from automl.config.supernet import SupernetOptions
from automl.config.training import TrainingOptions
from automl.evaluation import Evaluator
from automl.fit.blockwise import STEPS
from automl.runners import run_trial
from automl.sharing.supernet_training import train_supernet
from automl.study.setup import Setup
from search_spaces import Point, supernet

T = TypeVar("T")

PILOT = (10, 30)
"""How many steps each block is tuned for, twice, to learn what a step takes. After fewer a block may have gained
nothing yet, and is run once more for that."""
BATCHES = 4
"""Of an epoch of training; of two such epochs the second is timed."""


@dataclass(frozen=True)
class Phase:
    """A phase of a study: what is done, how often, how long one takes and all together, in seconds."""

    name: str
    what: str
    each_s: float
    all_s: float


class TrialFailedError(Exception):
    """The network at the uniform choice cannot be judged, so that nothing can be foretold."""


def foretell(setup: Setup) -> Iterator[Phase]:
    """Yield the phases of a study one after the other, each once it has been tried. `TrialFailedError`.

    Everything is tried at the uniform choice within the budget, and nothing is recorded. The agents' own time, and
    that of the test data and of latencies, is left out.
    """
    config, evaluator = setup.config, setup.evaluator
    prepared_s, _ = _timed(evaluator.prepare)
    yield Phase("preparation", "", prepared_s, prepared_s)
    point = setup.space.project(np.ones(len(setup.space.knobs)), setup.limits)
    outcome = run_trial(evaluator, point)
    if outcome.reason:
        raise TrialFailedError(f"a trial at the uniform choice is {outcome.state}: {outcome.reason}")
    if config.evaluation.supernet is not None:
        yield from _shared(setup, config.evaluation.supernet, outcome.wall_s)
    lanes = [agents.planned(agent.name, config.trials) for agent, _ in config.lanes]
    trials, workers = sum(lanes), config.runner.workers
    searched_s = trials * outcome.wall_s / min(workers, trials)
    yield Phase("search", f"{trials} trials with {workers} workers", outcome.wall_s, searched_s)
    count = min(len(lanes) + config.finish.finalists - 1, trials)  # the best of all is the best of its lane too
    each_s, finisher, network = _refitted(evaluator, point, config.finish.reconstruction)
    measured_s, _ = _timed(lambda: finisher.measure_validation(network))
    yield Phase("finishing", f"up to {count} networks", each_s + measured_s, count * (each_s + measured_s))
    if config.training is not None:
        times = config.finish.stages.count if config.finish.stages is not None else 1
        each_s = times * _trained_s(finisher, point, network, config.training, measured_s)
        yield Phase("training", f"up to {count} networks", each_s, count * each_s)


def _shared(setup: Setup, options: SupernetOptions, trial_s: float) -> Iterator[Phase]:
    """The training of the weights that all networks share, and the trainings that check it. Where it is trusted the
    search takes less than is told after that."""
    if options.file is None:
        seconds = options.training.seconds or _supernet_s(setup, options)
        yield Phase("supernet", "weights that all networks share", seconds, seconds)
    if options.check:
        yield Phase("check", f"{options.check} networks trained alone", trial_s, options.check * trial_s)


def _supernet_s(setup: Setup, options: SupernetOptions) -> float:
    """How long all epochs of a supernet take, by a few batches of one."""
    training = options.training
    few = replace(training, epochs=2, samples=BATCHES * training.batch_size)
    weights = supernet(setup.space)
    epoch = train_supernet(weights, setup.problem, setup.limits, replace(options, training=few)).epochs[-1]
    return training.epochs * epoch.wall_s / epoch.samples * _samples(setup.evaluator, training)


def _samples(evaluator: Evaluator, options: TrainingOptions) -> int:
    """How many samples an epoch has."""
    there = sum(len(targets) for _, targets in evaluator.problem.epochs(options.batch_size)(0))
    return there if options.samples is None else min(there, options.samples)


def peak_bytes() -> int:
    """The most memory that this process has had so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _refitted(evaluator: Evaluator, point: Point, how: str) -> tuple[float, Evaluator, nn.Module]:
    """How long it takes to rebuild a finalist, by whom it is, and the network."""
    if how != "blockwise":
        finisher = evaluator.reporting(how)
        seconds, network = _timed(partial(finisher.network, point))
        return seconds, finisher, network
    took = []
    for steps in PILOT:
        finisher = evaluator.reporting(how, steps=steps)
        seconds, network = _timed(partial(finisher.network, point))
        took.append(seconds)
    step_s = max(0.0, (took[1] - took[0]) / (PILOT[1] - PILOT[0]))
    return took[0] + (STEPS - PILOT[0]) * step_s, finisher, network


def _trained_s(
    finisher: Evaluator, point: Point, network: nn.Module, options: TrainingOptions, measured_s: float
) -> float:
    """How long `network` is trained, with a measurement after each epoch."""
    if options.seconds is not None:
        return options.seconds
    few = replace(options, epochs=2, samples=BATCHES * options.batch_size, keep="last", compile=False)
    epoch = finisher.train(copy.deepcopy(network), point, few).epochs[-1]
    return options.epochs * (_samples(finisher, options) * epoch.wall_s / epoch.samples + measured_s)


def _timed(what: Callable[[], T]) -> tuple[float, T]:
    """Seconds that it took, and what came of it."""
    started = time.perf_counter()
    result = what()
    return time.perf_counter() - started, result
