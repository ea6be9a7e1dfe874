"""What makes the networks of a space, whatever the space is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from agents import Sensitivity
from automl.config.method import MethodOptions
from automl.fit.blockwise import STEPS
from automl.tasks.problem import Problem
from automl.training.methods.base import Method
from automl.types import Measurement, Say, silent
from search_spaces import NetworkSpace, Plan, Point


class Building(Protocol):
    """Makes the network of a Point, always the same of the same. Once prepared it needs no data."""

    @property
    def network_space(self) -> NetworkSpace | None:
        """The space, if it is of a network that was given."""

    @property
    def original(self) -> nn.Module | None:
        """The network as it was given; None where networks are made from nothing."""

    @property
    def example(self) -> nn.Module:
        """A network by which it is decided how others are run fastest."""

    def prepare(self, problem: Problem, dtype: torch.dtype) -> None:
        """Gather once what every network needs; passes over samples are made in `dtype`."""

    def changes(self, point: Point) -> bool:
        """Whether the network at `point` is another than the original."""

    def plan(self, point: Point) -> Plan:
        """What the network at `point` is made by."""

    def build(self, point: Point, *, without: str | None = None) -> nn.Module:
        """The network at `point`: float32, nothing folded, on the CPU, in eval mode.

        `without`: an operator whose step, which is not structural, is left out.
        """

    def sensitivity(self, problem: Problem) -> Sensitivity:
        """Knob -> what each of its levels alone is estimated to cost in loss, where that is known."""

    def methods(self, network: nn.Module, plan: Plan, options: MethodOptions | None) -> list[Method]:
        """What keeps `network`, which `plan` made, in the space while it is trained, or brings it back there."""

    def counts(self, network: nn.Module, example_inputs: Sequence[Tensor]) -> list[Measurement]:
        """The costs counted on a built network."""

    def thorough(self, problem: Problem, *, blockwise: bool, steps: int = STEPS, say: Say = silent) -> Building:
        """A builder that makes the same choices with more care, for networks that are reported."""
