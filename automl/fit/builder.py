"""From a Point to the network that a trial judges: cut, refitted, fitted operator by operator, norms re-estimated."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, fx, nn

from agents import ErrorCurves, Sensitivity
from automl.config.evaluation import EvaluationOptions
from automl.config.method import MethodOptions
from automl.fast.precision import first, formatted
from automl.fit.block_errors import block_errors
from automl.fit.blockwise import STEPS, BlockReconstruction
from automl.fit.closer import CloserRefit, WithNorms
from automl.fit.dearer import dearer_when_factorised
from automl.fit.distance import Distance
from automl.fit.layerwise import AsSearched, LayerByLayer, Refit
from automl.fit.one_unit import in_one_unit
from automl.fit.ranges import SAMPLES
from automl.fit.recalibration import recalibrate
from automl.fit.reconstruction import Reconstruction
from automl.fit.registry import fitter_of
from automl.fit.sequential import QUICK, SequentialReconstruction
from automl.fit.statistics import Statistics
from automl.measures.counts import Counting, counts
from automl.tasks.batches import Batch, compact
from automl.tasks.problem import Problem
from automl.training.methods.base import Method
from automl.types import Measurement, Say, silent
from search_spaces import OPERATORS, Code, NetworkSpace, Plan, Point, Sparsity
from search_spaces.pricing.metrics import PEAK
from search_spaces.settled import settle_coded

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
        self._refit: Refit = AsSearched(None, self._fitters, None)
        self._last: Refit | None = None
        """What takes the steps that leave weights which must not be moved again; None: the first does."""
        self._recalibration: list[Batch] = []
        self._observed: list[Batch] = []

    def prepare(self, problem: Problem, dtype: torch.dtype) -> None:
        """Gather once what every network needs; passes over samples are made in `dtype`."""
        self._dtype = dtype
        network, options = self.space.original, self.options
        layers = dict.fromkeys(layer for fitter in self._fitters.values() for layer in fitter.layers())
        statistics = self._statistics = Statistics(network, problem, list(layers))
        for fitter in self._fitters.values():
            self._scores |= fitter.scores(statistics, problem)
        if self._any_fitted:
            _ = statistics.grams, statistics.fisher  # a pickle has no data to gather them from
        if options.reconstruction == "sequential" and (self._any_structural or self._any_fitted):
            sequential = SequentialReconstruction(network, problem.calibration, QUICK)
            self._refit = LayerByLayer(sequential, self._fitters, self._fitted_by)
        else:
            refits = self._any_structural and options.reconstruction == "least_squares"
            refit = Reconstruction(network, statistics.grams) if refits else None
            self._refit = AsSearched(refit, self._fitters, self._fitted_by)
        if options.recalibrates:
            draw = problem.recalibration
            drawn = draw(RECALIBRATION_SEED) if draw else problem.calibration
            self._recalibration = formatted(first(drawn, RECALIBRATION_SAMPLES), dtype)
        if any(fitter.observes for fitter in self._fitters.values()):
            self._observed = first(problem.calibration, SAMPLES)

    @property
    def _any_structural(self) -> bool:
        return any(operator.structural for operator in self.space.operators)

    @property
    def _any_fitted(self) -> bool:
        return any(fitter.fits for fitter in self._fitters.values())

    @property
    def _fitted_by(self) -> Statistics | None:
        """The statistics, if any fitter gives weights values by them."""
        return self._statistics if self._any_fitted else None

    @property
    def original(self) -> fx.GraphModule:
        """The network as it was given."""
        if self._given is None:
            return self.space.original
        network = copy.deepcopy(self.space.original)
        network.load_state_dict(self._given)
        return network

    @property
    def network_space(self) -> NetworkSpace:
        """The space of the network that was given."""
        return self.space

    @property
    def example(self) -> fx.GraphModule:
        """A network by which it is decided how others are run fastest."""
        return self.space.original

    def changes(self, point: Point) -> bool:
        """Whether the network at `point` is another than the original."""
        return not np.array_equal(self.space.levels(point), self.space.original_levels)

    def plan(self, point: Point) -> Plan:
        """What the network at `point` keeps."""
        return self.space.plan(point, self._scores)

    def build(self, point: Point, *, without: str | None = None) -> nn.Module:
        """The network at `point`: float32, nothing folded, on the CPU, in eval mode.

        `without`: an operator whose step, which is not structural, is left out.
        """
        plan = self.plan(point)
        if not self.changes(point):
            return copy.deepcopy(self.original).eval()
        plan = Plan(tuple(step for step in plan.steps if step.operator != without))
        if not plan.steps:
            return copy.deepcopy(self.space.original).eval()
        network, slices = self.space.surgery(plan).eval(), self.space.slices(plan)
        steps = [step for step in plan.steps if not OPERATORS[step.operator].options_type.structural]
        if self._last is None:
            self._refit.apply(network, slices, steps)
        else:
            last = [step for step in steps if step.packed]
            if len(last) < len(plan.steps):  # else it is the original yet
                self._refit.apply(network, slices, [step for step in steps if not step.packed])
            if last:
                self._last.apply(network, slices, last)
        recalibrate(network, self._recalibration, self._dtype)
        settle_coded(network, plan)
        for step in plan.steps:
            self._fitters[step.operator].complete(network, step, self._observed, self._dtype)
        return network

    def sensitivity(self, problem: Problem) -> Sensitivity:
        """Knob -> what each of its levels alone is estimated to cost in loss. The first call needs the data."""
        if self._sensitivity is None:
            assert self._statistics is not None
            curves = [fitter.curves(self._statistics, problem) for fitter in self._fitters.values()]
            distance = self._distance(problem)
            measured = None if distance is None else lambda point: distance.to(self.build(point))
            curves.append(block_errors(self.space, {name for found in curves for name in found}, measured))
            dearer = dearer_when_factorised(self._fitters.values(), self._statistics)
            self._sensitivity = ErrorCurves(in_one_unit(self.space, curves, measured), dearer)
        return self._sensitivity

    def methods(self, network: nn.Module, plan: Plan, options: MethodOptions | None) -> list[Method]:
        """What keeps `network`, which `plan` made, in the space while it is trained, or brings it back there."""
        return [m for step in plan.steps for m in self._fitters[step.operator].methods(network, step, options)]

    def counts(self, network: nn.Module, example_inputs: Sequence[Tensor]) -> list[Measurement]:
        """The costs counted on a built network."""
        space = self.space
        memory = PEAK in space.metrics
        return counts(network, example_inputs, Counting(space.packed, space.has(Sparsity), space.has(Code), memory))

    def thorough(self, problem: Problem, *, blockwise: bool, steps: int = STEPS, say: Say = silent) -> Builder:
        """A builder that makes the same choices and fits them with care: layer after layer, or as trials are where that
        comes closer, in seconds where a trial takes tenths; and in minutes if blocks are tuned too (`blockwise`),
        `steps` each, which `say` is told of. Where nothing is fitted or tuned it is the same."""
        tune = partial(
            BlockReconstruction, self.space.original, problem.calibration, dtype=self._dtype, steps=steps, say=say
        )
        other = copy.copy(self)
        if not self._any_structural and not self._any_fitted:
            other._refit = tune(self._refit, fitters=self._fitters) if blockwise else self._refit
            return other
        other.options = replace(self.options, reconstruction="sequential", recalibration="auto")
        sequential = SequentialReconstruction(self.space.original, problem.calibration)
        careful = LayerByLayer(sequential, self._fitters, self._fitted_by)
        other._last = careful if self._any_fitted else None
        other._recalibration = []  # the fits set the norms, to what the original makes and not to what it is fed
        other._refit = self._closer(careful, problem)
        if blockwise:
            other._refit = tune(other._refit, fitters=self._fitters)
            other._last = None if other._last is None else tune(other._last, fitters=self._fitters)
        return other

    def _closer(self, careful: LayerByLayer, problem: Problem) -> Refit:
        """The careful refit, or that of trials where it comes closer to the original."""
        distance = self._distance(problem)
        if not isinstance(self._refit, AsSearched) or distance is None:
            return careful
        return CloserRefit(careful, WithNorms(self._refit, self._recalibration, self._dtype), distance)

    def _distance(self, problem: Problem) -> Distance | None:
        """How far networks are from the original, if its kind of task can say that."""
        divergence = problem.kind.divergence
        return None if divergence is None else Distance(self.space.original, problem.validation, divergence)

    def __getstate__(self) -> dict[str, object]:
        data = {name: compact(getattr(self, name)) for name in ("_recalibration", "_observed")}
        return {**self.__dict__, **data}
