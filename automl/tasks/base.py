"""What a kind of task is: the meaning of a network's outputs, and so how they are scored, compared and learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from automl.tasks.metric import Metric, Score

DIVERGENCE = "divergence"
"""The name under which the divergence from the original's outputs is measured."""


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
        """Name -> metric, the headline among them, in the order in which they are measured."""
        ...

    @property
    def headline(self) -> str:
        """The name of the metric by which people judge such a network."""
        ...

    @property
    def imitates(self) -> bool:
        """Whether the targets are the outputs of the original network, and labels, if there are any, play no part."""
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

    def require_labels(self, outputs: Any, targets: Tensor) -> None:
        """Raise `DataError` if any of `targets`, [n, ...], is a label of no class of networks with such `outputs`.

        The outputs may be those of other samples. A kind whose targets are no labels accepts all.
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
