"""What a fitter is: it chooses what an operator does from data, fits the weights, and knows the error of each level."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import fx, nn

from agents import Sensitivity
from automl.config.evaluation import EvaluationOptions
from automl.config.method import MethodOptions
from automl.fit.statistics import Moments, Statistics
from automl.tasks.batches import Batch
from automl.tasks.problem import Problem
from automl.training.methods.base import Method
from search_spaces import Operator

AnOperator = TypeVar("AnOperator", bound=Operator)


class Fitter(ABC, Generic[AnOperator]):
    """What data say of one operator's choices. By itself it adds nothing to what the operator does without data."""

    def __init__(self, operator: AnOperator, options: EvaluationOptions) -> None:
        self.operator = operator
        self.options = options

    @property
    def fits(self) -> bool:
        """Whether it gives weights values that follow from the inputs of the layers of each network."""
        return False

    def layers(self) -> Sequence[str]:
        """The layers of the original network whose statistics it needs."""
        return ()

    def scores(self, statistics: Statistics, problem: Problem) -> Mapping[str, np.ndarray]:
        """Site -> what each of its parts matters: the highest stay. Asked for once, before any network is built."""
        return {}

    def curves(self, statistics: Statistics, problem: Problem) -> Sensitivity:
        """Knob -> what each of its levels alone is estimated to cost, twice the rise of the loss: [n_levels].

        Never rising, 0 at the highest. Asked for after `scores`, once.
        """
        return {}

    def whole(self, statistics: Statistics) -> Moments:
        """What is known of the layers of the original, of which nothing is removed."""
        recorded = self.operator.basis.recorded
        return statistics.moments(recorded.slices(recorded.whole))

    def fit(self, network: fx.GraphModule, step: Any, moments: Moments) -> tuple[fx.GraphModule, Moments]:
        """Do to `network`, which may be changed, what `step` says, with weights that `moments` make the best of.

        Returns the network, and what is known of its layers then.
        """
        return self.operator.rebuild(network, step), moments

    @property
    def observes(self) -> bool:
        """Whether `complete` needs calibration data."""
        return False

    def complete(self, network: fx.GraphModule, step: Any, observed: Sequence[Batch], dtype: torch.dtype) -> None:
        """Do in place what hangs on all that the fits have made of `network`: the last that is done to it.

        `observed`: calibration data, in float32; passes over them are made in `dtype`.
        """

    def holding(self, network: nn.Module, step: Any) -> AbstractContextManager[None]:
        """While it lasts, gradients may move the weights of a network that has been fitted to `step`, which go on being
        what the step makes of weights."""
        return nullcontext()

    def methods(self, network: nn.Module, step: Any, options: MethodOptions | None) -> list[Method]:
        """What keeps a network that has been fitted to `step` in the space while it is trained, or brings it back there
        by the method that is asked for."""
        return []
