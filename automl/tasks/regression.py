"""Regression: outputs are numbers, and targets are numbers of the same shape."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from automl.errors import DataError
from automl.tasks.losses import loss_metric
from automl.tasks.metric import Metric, Score


def squares(outputs: Tensor, targets: Tensor) -> Tensor:
    """The squared errors of each sample, summed, and how many numbers it has: [n, 2]."""
    errors = (outputs.double() - targets.double()).square().reshape(len(outputs), -1)
    return torch.stack([errors.sum(1), torch.full((len(errors),), float(errors.shape[1]), dtype=torch.float64)], 1)


def root_mean(sums: Tensor) -> float:
    """The root of a mean, from the total and the number of what is averaged."""
    return math.sqrt(float(sums[0] / sums[1]))


@dataclass(frozen=True)
class Regression:
    """The kind of task whose outputs are numbers, judged by the root of their mean squared error over the split."""

    loss: Score = F.mse_loss
    headline = "rmse"
    imitates = False
    softened = None

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The root mean squared error and the loss."""
        return {self.headline: Metric(statistics=squares, value=root_mean), "loss": loss_metric(self.loss)}

    @staticmethod
    def divergence(outputs: Tensor, originals: Tensor) -> Tensor:
        """The squared difference of each number from the original's: [n, ...]."""
        return (outputs - originals).square()

    def require_labels(self, outputs: Any, targets: Tensor) -> None:
        """Accept all targets, which are no labels."""

    @staticmethod
    def drawn_loss(outputs: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        """The mean squared error of each sample, summed over samples, with drawn targets; `targets` play no part.

        A mean of d squares is the negative logarithm of a normal density of variance d / 2, from which targets are
        drawn, so that a network that fits its samples perfectly has gradients too.
        """
        size = outputs[0].numel()
        noise = torch.randn(outputs.shape, generator=generator, dtype=outputs.dtype)
        return (outputs - (outputs.detach() + noise * math.sqrt(size / 2))).square().sum() / size

    @staticmethod
    def agreement(outputs: Any, others: Any) -> Tensor:
        """A single one: [1]. Numbers differ always; the loss says whether by too much."""
        return torch.ones(1)


def require_numbers(outputs: Any, targets: Tensor) -> None:
    """Raise `DataError` unless outputs and targets are of one shape: other shapes would be spread over each other."""
    if not isinstance(outputs, Tensor) or outputs.shape != targets.shape:
        shape = list(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise DataError(
            f"regression needs targets of the shape of the outputs, got targets {list(targets.shape)} and outputs "
            f"{shape}. Reshape the targets, for example by `unsqueeze(1)`"
        )


@dataclass(frozen=True)
class SquaresInVariances:
    """The mean squared error in variances of the targets, 1 less the coefficient of determination: numbers of any unit
    are learnt alike, and no one of several outweighs the others."""

    spreads: tuple[float, ...]
    """The standard deviation of each number, [k], in the training data."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean over samples and numbers, [n, k] each: a scalar."""
        return self._errors(outputs, targets).square().mean()

    def statistics(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """What `squares` has, of errors in standard deviations: [n, 2]."""
        errors = self._errors(outputs.double(), targets.double())
        return squares(errors, torch.zeros_like(errors))

    def _errors(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets) / torch.tensor(self.spreads, dtype=outputs.dtype, device=outputs.device)
