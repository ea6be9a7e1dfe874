"""Tasks without labels: outputs are held against those of the original network, which serve as the targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from automl.tasks.base import DIVERGENCE, Kind
from automl.tasks.losses import loss_metric
from automl.tasks.metric import Metric, Score
from automl.tasks.regression import Regression


def cosine(outputs: Tensor, originals: Tensor) -> Tensor:
    """The cosine of the angle between all that is put out for a sample and the same of the original: [n]."""
    return F.cosine_similarity(outputs.flatten(1), originals.flatten(1), dim=1)


def cosine_distance(outputs: Tensor, originals: Tensor) -> Tensor:
    """One less the cosine to the original's outputs, at least 0: [n]."""
    return (1 - cosine(outputs, originals)).clamp(min=0)


def mean_cosine_distance(outputs: Tensor, originals: Tensor) -> Tensor:
    """The mean of `cosine_distance` over samples, a scalar."""
    return cosine_distance(outputs, originals).mean()


@dataclass(frozen=True)
class Embedding:
    """The kind of task whose outputs are vectors that only their direction matters of; it needs no labels."""

    loss: Score = mean_cosine_distance
    headline = "cosine"
    imitates = True
    softened = None

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The mean cosine to the original's outputs, and the loss, which for training is one less that."""
        own = Metric(cosine_distance) if self.loss is mean_cosine_distance else loss_metric(self.loss)
        return {self.headline: Metric(cosine, "maximize"), "loss": own}

    @staticmethod
    def divergence(outputs: Tensor, originals: Tensor) -> Tensor:
        """One less the cosine: [n]."""
        return cosine_distance(outputs, originals)

    def require_labels(self, outputs: Any, targets: Tensor) -> None:
        """Accept all targets, which are no labels."""

    @staticmethod
    def drawn_loss(outputs: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        """A loss whose gradients' second moment is the curvature of the distance at the original, (I - u u') / |x|^2.

        With x the outputs of a sample, u their direction; a scalar. `targets` play no part.
        """
        x = outputs.detach().flatten(1)
        length = x.norm(dim=1, keepdim=True).clamp(min=1e-12)
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        across = noise - (noise * x).sum(1, keepdim=True) / length**2 * x
        weighed: Tensor = across / length * outputs.flatten(1)
        return weighed.sum()

    @staticmethod
    def agreement(outputs: Any, others: Any) -> Tensor:
        """A single one: [1]. The loss says whether vectors differ by too much."""
        return torch.ones(1)


@dataclass(frozen=True)
class Unlabelled:
    """The kind of task of batches without labels: how far outputs are from the original's is all that is known."""

    base: Kind = field(default_factory=Regression)
    """Says how outputs are compared."""
    headline = DIVERGENCE
    imitates = True

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The divergence from the original's outputs, alone."""
        return {DIVERGENCE: Metric(self.base.divergence)}

    def loss(self, outputs: Any, originals: Any) -> Tensor:
        """The mean divergence, a scalar."""
        assert self.base.divergence is not None
        return self.base.divergence(outputs, originals).mean()

    @property
    def divergence(self) -> Callable[[Any, Any], Tensor] | None:
        """That of the base."""
        return self.base.divergence

    @property
    def softened(self) -> Callable[[Tensor, Tensor, float], Tensor] | None:
        """That of the base."""
        return self.base.softened

    def require_labels(self, outputs: Any, targets: Tensor) -> None:
        """Accept all targets, which are no labels."""

    def drawn_loss(self, outputs: Any, targets: Tensor, generator: torch.Generator) -> Tensor:
        """That of the base."""
        return self.base.drawn_loss(outputs, targets, generator)

    def agreement(self, outputs: Any, others: Any) -> Tensor:
        """That of the base."""
        return self.base.agreement(outputs, others)
