"""What a kind of task is: the meaning of a network's outputs, and so how they are scored, compared and learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

Score = Callable[[Any, Tensor], Tensor]
"""(outputs, targets) -> one value a sample, [n, ...], or the mean over the batch, a scalar."""

DIVERGENCE = "divergence"
"""The name under which the divergence from the original's outputs is measured."""


@dataclass(frozen=True)
class Metric:
    """A metric scores outputs against targets; it says which direction is better, and how people read it."""

    score: Score
    direction: Literal["maximize", "minimize"]
    unit: Literal["", "%"] = ""
    """What it is shown in. `%`: it is a rate, recorded as a fraction from 0 to 1."""

    def __call__(self, outputs: Any, targets: Tensor) -> Tensor:
        """One value a sample, [n, ...], or the mean over the batch, a scalar."""
        return self.score(outputs, targets)


class Kind(Protocol):
    """A kind of task says what the outputs of a network mean; everything that depends on it asks here.

    Outputs are what the network's forward returns for n samples. A kind travels with its problem to the workers, so it
    must pickle.
    """

    @property
    def loss(self) -> Score:
        """(outputs, targets) -> the mean loss, a scalar: what the network is trained with."""
        ...

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Name -> metric, `loss` and the headline among them, in the order in which they are measured."""
        ...

    @property
    def headline(self) -> str:
        """The name of the metric by which people judge such a network."""
        ...

    @property
    def divergence(self) -> Callable[[Any, Any], Tensor] | None:
        """(outputs, the original's) -> how far each sample's outputs are from the original's, [n, ...], at least 0.

        None: outputs of this kind cannot be compared without targets.
        """
        ...

    @property
    def softened(self) -> Callable[[Tensor, Tensor, float], Tensor] | None:
        """(outputs, the teacher's, temperature) -> the mean loss of a distillation by softened probabilities.

        None: the outputs are no probabilities.
        """
        ...

    def drawn_loss(self, outputs: Any, targets: Tensor, generator: torch.Generator) -> Tensor:
        """The loss summed over samples, a scalar, on targets drawn by `generator` from what the outputs predict.

        Its gradients are those of the true Fisher matrix. A kind whose outputs are no distribution takes the targets as
        they are. Raises `NotFiniteError` where nothing can be drawn.
        """
        ...

    def agreement(self, outputs: Any, others: Any) -> Tensor:
        """Whether two outputs for the same samples predict the same, 1 or 0 for each prediction: [n, ...].

        Whether a cheaper arithmetic does is judged by the mean. A kind that predicts nothing in particular gives ones.
        """
        ...


def loss_metric(loss: Score) -> Metric:
    """The loss as a metric: cross-entropy a sample instead of its mean, so that its standard error is known; other
    losses as they are."""
    each = partial(F.cross_entropy, reduction="none") if loss is F.cross_entropy else loss
    return Metric(each, "minimize")
