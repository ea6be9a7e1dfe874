"""From a Point of a space of architectures to its network, with new weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from agents import Sensitivity
from automl.config.method import MethodOptions
from automl.fit.blockwise import STEPS
from automl.measures.counts import Counting, counts
from automl.tasks.problem import Problem
from automl.training.methods.base import Method
from automl.types import Measurement, Say, silent
from search_spaces import Plan, Point, Searched

SEED = 0
"""Of the weights that a network begins with."""


class CellBuilder:
    """Builds the networks of a space that needs no original. Nothing is fitted: what is new can only be trained."""

    network_space = None
    original = None

    def __init__(self, space: Searched, reference: Point) -> None:
        """`reference`: the Point with which others are compared."""
        self.space = space
        self._reference = reference

    @property
    def example(self) -> nn.Module:
        """The network of the reference."""
        return self.build(self._reference)

    def prepare(self, problem: Problem, dtype: torch.dtype) -> None:
        """There is nothing to gather."""

    def changes(self, point: Point) -> bool:
        """Every network is new."""
        return True

    def plan(self, point: Point) -> Plan:
        """The architecture at `point`."""
        return self.space.plan(point)

    def build(self, point: Point, *, without: str | None = None) -> nn.Module:
        """The network at `point` with its first weights, the same whenever it is built; no operator has a step."""
        return with_first_weights(self.space, self.plan(point))

    def sensitivity(self, problem: Problem) -> Sensitivity:
        """Nothing is known of a level alone."""
        return {}

    def methods(self, network: nn.Module, plan: Plan, options: MethodOptions | None) -> list[Method]:
        """Any weights will do."""
        return []

    def counts(self, network: nn.Module, example_inputs: Sequence[Tensor]) -> list[Measurement]:
        """The costs counted on a built network."""
        return counts(network, example_inputs, Counting())

    def thorough(self, problem: Problem, *, blockwise: bool, steps: int = STEPS, say: Say = silent) -> CellBuilder:
        """The same: there is nothing to fit with more care."""
        return self


def with_first_weights(space: Searched, plan: Plan) -> nn.Module:
    """The network that `plan` makes of nothing, with weights drawn from `SEED`, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(SEED)
        return space.build(plan).eval()
