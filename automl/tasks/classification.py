"""Classification: outputs are class scores, [n, classes], or for dense targets [n, classes, ...] at each position."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from automl.errors import NotFiniteError
from automl.tasks.losses import IGNORED, counted, ignored_label, loss_metric, require_labels
from automl.tasks.metric import Metric, Score, weighted_mean


def scores_classes(outputs: Any, targets: Tensor) -> bool:
    """Whether `outputs` look like class scores for `targets`: one dimension more, and targets that are indices."""
    if not isinstance(outputs, Tensor) or targets.is_floating_point():
        return False
    return outputs.ndim == targets.ndim + 1 and outputs.shape[2:] == targets.shape[1:]


def hits(outputs: Tensor, targets: Tensor, ignored: int = IGNORED) -> Tensor:
    """How many labels of each sample are predicted, and how many count: [n, 2]; `ignored` is no label."""
    right = (outputs.argmax(1) == targets) & (targets != ignored)
    return torch.stack([right.reshape(len(right), -1).sum(1).double(), counted(targets, ignored)], 1)


@dataclass(frozen=True)
class Classification:
    """The kind of task whose outputs are class scores, before the softmax; targets are class indices.

    Targets that the loss leaves out count as neither right nor wrong.
    """

    loss: Score = F.cross_entropy
    void: int | None = None
    """The label that does not count; None: the one that the loss leaves out."""
    headline = "accuracy"
    imitates = False

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The accuracy and the loss."""
        right = partial(hits, ignored=ignored_label(self.loss) if self.void is None else self.void)
        rate = Metric(direction="maximize", unit="%", statistics=right, value=weighted_mean)
        return {self.headline: rate, "loss": loss_metric(self.loss)}

    def require_labels(self, outputs: Tensor, targets: Tensor) -> None:
        """Raise `DataError` if a label is no index of a class and not left out."""
        require_labels(targets, outputs.shape[1], self.loss, self.void)

    @staticmethod
    def divergence(outputs: Tensor, originals: Tensor) -> Tensor:
        """The Kullback-Leibler divergence of the predicted probabilities from the original's: [n, ...]."""
        ours, theirs = F.log_softmax(outputs, dim=1), F.log_softmax(originals, dim=1)
        return F.kl_div(ours, theirs, reduction="none", log_target=True).sum(1)

    @staticmethod
    def softened(outputs: Tensor, reference: Tensor, temperature: float) -> Tensor:
        """T^2 times the divergence of softmax(outputs / T) from softmax(reference / T), averaged over samples.

        Hinton et al. 2015, "Distilling the knowledge in a neural network", section 2: their cross-entropy less the
        teacher's entropy, which has no gradient. The factor makes up for gradients that shrink with 1 / T^2 (equation
        4). Class scores [n, classes, ...]; further dimensions are positions, averaged over too.
        """
        ours = F.log_softmax(outputs.float() / temperature, dim=1)
        theirs = F.log_softmax(reference / temperature, dim=1)
        return temperature**2 * F.kl_div(ours, theirs, reduction="none", log_target=True).sum(1).mean()

    @staticmethod
    def drawn_loss(outputs: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        """The cross-entropy, summed, with labels drawn from the predicted probabilities: a scalar.

        On samples that a network fits perfectly, true labels give no gradient; `targets` play no part.
        Errors: `NotFiniteError`.
        """
        probabilities = outputs.detach().movedim(1, -1).flatten(0, -2).softmax(-1)  # [n * positions, classes]
        if not probabilities.isfinite().all():
            raise NotFiniteError("no label can be drawn from probabilities that are not finite")
        drawn = torch.multinomial(probabilities, 1, generator=generator)
        return F.cross_entropy(outputs, drawn.view(len(outputs), *outputs.shape[2:]), reduction="sum")

    @staticmethod
    def agreement(outputs: Tensor, others: Tensor) -> Tensor:
        """Whether the most likely class is the same, 1 or 0: [n, ...]."""
        return (outputs.argmax(1) == others.argmax(1)).float()
