"""A task of one's own: nothing is known of the outputs but the loss that was given with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from automl.tasks.losses import loss_metric
from automl.tasks.metric import Metric, Score


@dataclass(frozen=True)
class Custom:
    """The kind of task whose outputs only its loss understands: whatever a network returns, and any targets."""

    loss: Score = F.cross_entropy
    headline = "loss"
    imitates = False
    divergence = None
    softened = None

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The loss alone."""
        return {self.headline: loss_metric(self.loss)}

    def require_labels(self, outputs: Any, targets: Tensor) -> None:
        """Accept all targets, which are no labels."""

    def drawn_loss(self, outputs: Any, targets: Tensor, generator: torch.Generator) -> Tensor:
        """The loss with the targets as they are, times the number of samples: a scalar; nothing can be drawn."""
        return self.loss(outputs, targets).sum() * len(targets)

    @staticmethod
    def agreement(outputs: Any, others: Any) -> Tensor:
        """A single one: [1]. What such outputs predict is unknown; their loss alone tells them apart."""
        return torch.ones(1)
