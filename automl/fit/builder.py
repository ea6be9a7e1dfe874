"""From a Point to the network that a trial judges: channels chosen, weights refitted, batch norms re-estimated."""

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
from automl.fit.blockwise import BlockReconstruction
from automl.fit.choice import choose, gather, sensitivity
from automl.fit.recalibration import recalibrate
from automl.fit.reconstruction import Reconstruction
from automl.fit.sequential import QUICK, SequentialReconstruction
from automl.measures.counts import counts
from automl.tasks.batches import compact
from automl.tasks.problem import Batch, Problem
from automl.training.methods.base import Regulariser
from automl.types import Measurement
from search_spaces import ChannelSpace, Plan, Point

RECALIBRATION_SEED = 0
RECALIBRATION_SAMPLES = 128
"""How many samples batch norms are re-estimated on. On a pruned ResNet-56 128, 256 and 512 gave the same accuracy to
0.2 points, and the passes over 512 took longer than measuring it on 1,000."""


class Builder:
    """Builds the networks of one space; the same Point always gives the same network.

    A network from which nothing was removed is the original, as it was given. Once prepared it needs no data.
    """

    def __init__(
        self, space: ChannelSpace, options: EvaluationOptions, given: Mapping[str, Tensor] | None = None
    ) -> None:
        """`given`: the state of the network as it was given, if that of `space` has been trained since."""
        self.space = space
        self.options = options
        self._given = given
        self._dtype = torch.float32
        self._scores: Mapping[str, np.ndarray] = {}
        self._sensitivity: Sensitivity | None = None
        self._reconstruction: Reconstruction | SequentialReconstruction | BlockReconstruction | None = None
        self._recalibration: list[Batch] = []

    def prepare(self, problem: Problem, dtype: torch.dtype) -> None:
        """Gather once what every network needs; passes over samples are made in `dtype`."""
        self._dtype = dtype
        self._gather(problem)
        if self.options.recalibrates:
            draw = problem.recalibration
            drawn = draw(RECALIBRATION_SEED) if draw else problem.calibration
            self._recalibration = formatted(first(drawn, RECALIBRATION_SAMPLES), dtype)

    def _gather(self, problem: Problem) -> None:
        """Which channels stay, what narrowing costs, and how the rest is refitted."""
        network = self.space.original
        grams = gather(self.space, problem)
        choice = choose(self.space, problem, self.options.importance, grams)
        self._scores, self._sensitivity = choice.scores, choice.sensitivity
        if self.options.reconstruction == "least_squares":
            self._reconstruction = Reconstruction(network, grams)
        elif self.options.reconstruction == "sequential":
            self._reconstruction = SequentialReconstruction(network, problem.calibration, QUICK)

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
        network: fx.GraphModule = self.space.build(plan).eval()
        if not self.changes(point):
            if self._given is not None:
                network.load_state_dict(self._given)
            return network
        if self._reconstruction:
            self._reconstruction.apply(network, self.space.slices(plan))
        recalibrate(network, self._recalibration, self._dtype)
        return network

    def sensitivity(self, problem: Problem) -> Sensitivity:
        """What narrowing each group alone is estimated to cost in loss."""
        if self._sensitivity is None:
            self._sensitivity = sensitivity(self.space, problem)
        return self._sensitivity

    def regularisers(self, network: nn.Module) -> list[Regulariser]:
        """What keeps `network` in the space while it is trained."""
        return []

    def counts(self, network: nn.Module, example_inputs: Sequence[Tensor]) -> list[Measurement]:
        """The costs counted on a built network."""
        return counts(network, example_inputs)

    def thorough(self, problem: Problem, *, blockwise: bool) -> Builder:
        """A builder that keeps the same channels and fits them sequentially, with care: in seconds where a trial takes
        tenths, and in minutes if blocks are tuned too (`blockwise`)."""
        other = copy.copy(self)
        other.options = replace(self.options, reconstruction="sequential", recalibration="auto")
        other._recalibration = []
        original, batches = self.space.original, problem.calibration
        other._reconstruction = (
            BlockReconstruction(original, batches, dtype=self._dtype)
            if blockwise
            else SequentialReconstruction(original, batches)
        )
        return other

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_recalibration": compact(self._recalibration)}
