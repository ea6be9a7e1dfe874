"""From a Point to the network that a trial judges: cut, refitted, fitted operator by operator, norms re-estimated."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, fx, nn

from agents import Sensitivity
from automl.config.evaluation import EvaluationOptions
from automl.fast.precision import first, formatted
from automl.fit.blockwise import STEPS, BlockReconstruction
from automl.fit.closer import CloserRefit, Refit, WithNorms
from automl.fit.recalibration import recalibrate
from automl.fit.reconstruction import Reconstruction
from automl.fit.registry import fitter_of
from automl.fit.sequential import QUICK, SequentialReconstruction
from automl.fit.statistics import Moments, Statistics
from automl.measures.counts import Counting, counts
from automl.tasks.batches import Batch, compact
from automl.tasks.problem import Problem
from automl.training.methods.base import Regulariser
from automl.types import Measurement, Say, silent
from search_spaces import Code, LayerSlice, NetworkSpace, Plan, Point, Sparsity

RECALIBRATION_SEED = 0
RECALIBRATION_SAMPLES = 128
"""How many samples batch norms are re-estimated on. On a pruned ResNet-56 128, 256 and 512 gave the same accuracy to
0.2 points, and the passes over 512 took longer than measuring it on 1,000."""


class Builder:
    """Builds the networks of one space; the same Point always gives the same network.

    A network from which nothing was removed is the original, as it was given. Once prepared it needs no data, unless it
    is `thorough`.
    """

    def __init__(
        self, space: NetworkSpace, options: EvaluationOptions, given: Mapping[str, Tensor] | None = None
    ) -> None:
        """`given`: the state of the network as it was given, if that of `space` has been trained since."""
        self.space = space
        self.options = options
        self._given = given
        self._dtype = torch.float32
        self._fitters = {operator.name: fitter_of(operator, options) for operator in space.operators}
        self._scores: dict[str, np.ndarray] = {}
        self._sensitivity: Sensitivity | None = None
        self._statistics: Statistics | None = None
        self._refit: Refit | None = None
        self._recalibration: list[Batch] = []
        self._afresh: Problem | None = None
        """Whose data tell the statistics of every network anew; None: those of the original do."""

    def prepare(self, problem: Problem, dtype: torch.dtype) -> None:
        """Gather once what every network needs; passes over samples are made in `dtype`."""
        self._dtype = dtype
        network, options = self.space.original, self.options
        layers = dict.fromkeys(layer for fitter in self._fitters.values() for layer in fitter.layers())
        statistics = self._statistics = Statistics(network, problem, list(layers))
        for fitter in self._fitters.values():
            self._scores |= fitter.scores(statistics, problem)
        if any(operator.structural for operator in self.space.operators):
            if options.reconstruction == "least_squares":
                self._refit = Reconstruction(network, statistics.grams)
            elif options.reconstruction == "sequential":
                self._refit = SequentialReconstruction(network, problem.calibration, QUICK)
        if any(operator.fitted for operator in self.space.operators):
            _ = statistics.grams, statistics.fisher  # a pickle has no data to gather them from
        if options.recalibrates:
            draw = problem.recalibration
            drawn = draw(RECALIBRATION_SEED) if draw else problem.calibration
            self._recalibration = formatted(first(drawn, RECALIBRATION_SAMPLES), dtype)

    @property
    def original(self) -> fx.GraphModule:
        """The network as it was given."""
        if self._given is None:
            return self.space.original
        network = copy.deepcopy(self.space.original)
        network.load_state_dict(self._given)
        return network

    def changes(self, point: Point) -> bool:
        """Whether the network at `point` is another than the original."""
        return not np.array_equal(self.space.levels(point), self.space.original_levels)

    def plan(self, point: Point) -> Plan:
        """What the network at `point` keeps."""
        return self.space.plan(point, self._scores)

    def build(self, point: Point) -> nn.Module:
        """The network at `point`: float32, nothing folded, on the CPU, in eval mode."""
        plan = self.plan(point)
        if not self.changes(point):
            return copy.deepcopy(self.original).eval()
        network = self.space.surgery(plan).eval()
        slices = self.space.slices(plan)
        if self._refit is not None:
            self._refit.apply(network, slices)
        moments = self._moments(network, slices)
        for step in plan.steps:
            network, moments = self._fitters[step.operator].fit(network, step, moments)
        recalibrate(network, self._recalibration, self._dtype)
        return network

    def _moments(self, network: fx.GraphModule, slices: Mapping[str, LayerSlice]) -> Moments:
        """What is known of the layers of `network`, if any operator asks."""
        if self._statistics is None or not any(operator.fitted for operator in self.space.operators):
            return Moments({})
        if self._afresh is not None:
            return self._statistics.afresh(network, slices, self._afresh)
        return self._statistics.moments(slices)

    def sensitivity(self, problem: Problem) -> Sensitivity:
        """Knob -> what each of its levels alone is estimated to cost in loss. The first call needs the data."""
        if self._sensitivity is None:
            assert self._statistics is not None
            curves = [fitter.curves(self._statistics, problem) for fitter in self._fitters.values()]
            self._sensitivity = {name: curve for found in curves for name, curve in found.items()}
        return self._sensitivity

    def regularisers(self, network: nn.Module, plan: Plan) -> list[Regulariser]:
        """What keeps `network`, which `plan` made, in the space while it is trained."""
        return [r for step in plan.steps for r in self._fitters[step.operator].regularisers(network, step)]

    def counts(self, network: nn.Module, example_inputs: Sequence[Tensor]) -> list[Measurement]:
        """The costs counted on a built network."""
        return counts(
            network, example_inputs, Counting(self.space.packed, self.space.has(Sparsity), self.space.has(Code))
        )

    def thorough(self, problem: Problem, *, blockwise: bool, steps: int = STEPS, say: Say = silent) -> Builder:
        """A builder that makes the same choices and fits them with care: layer after layer, or as trials are where that
        comes closer, in seconds where a trial takes tenths; and in minutes if blocks are tuned too (`blockwise`),
        `steps` each, which `say` is told of. Where nothing is cut nothing is refitted."""
        if not any(operator.structural for operator in self.space.operators):
            return self
        other = copy.copy(self)
        other.options = replace(self.options, reconstruction="sequential", recalibration="auto")
        if not any(operator.fitted for operator in self.space.operators):
            other._recalibration = []  # the fits have set the norms already, and nothing comes after them
        other._afresh = problem
        other._refit = self._careful(problem)
        if blockwise:
            other._refit = BlockReconstruction(
                self.space.original, problem.calibration, other._refit, dtype=self._dtype, steps=steps, say=say
            )
        return other

    def _careful(self, problem: Problem) -> Refit:
        """The refit of networks that are reported."""
        original, divergence = self.space.original, problem.kind.divergence
        careful = SequentialReconstruction(original, problem.calibration)
        if not isinstance(self._refit, Reconstruction) or divergence is None:
            return careful
        searched = WithNorms(self._refit, self._recalibration, self._dtype)
        return CloserRefit(careful, searched, original, problem.validation, divergence)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_recalibration": compact(self._recalibration), "_afresh": None}
