"""What is minimised."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from automl.errors import ConfigError
from automl.tasks.losses import is_cross_entropy, label_options

Loss = Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]
"""(network, inputs, targets) -> a scalar; it runs the forward itself, under autocast if the training does.

An object may also have `parameters()`, trained along with the network's, and `begin(network)`, called before the first
step, when the network is on its device, which returns the module that the loss is to be called with: the network, or
one of the same weights that gives more of it.
"""


def smoothed(loss: Callable[[Any, Tensor], Tensor], label_smoothing: float) -> Callable[[Any, Tensor], Tensor]:
    """`loss` with part of each target spread evenly over all classes; other than cross-entropy: `ConfigError`."""
    if label_smoothing and is_cross_entropy(loss):
        return partial(F.cross_entropy, **{**(label_options(loss) or {}), "label_smoothing": label_smoothing})
    if label_smoothing:
        raise ConfigError(
            "label_smoothing is for cross-entropy, and this problem has a loss of its own: leave it out, or smooth "
            "the targets in that loss"
        )
    return loss


class SupervisedLoss:
    """The loss of the network's outputs against the targets."""

    def __init__(self, loss: Callable[[Any, Tensor], Tensor], label_smoothing: float = 0.0) -> None:
        """`loss`: (outputs, targets) -> mean loss, a scalar. Smoothing another than cross-entropy: `ConfigError`."""
        self._loss = smoothed(loss, label_smoothing)

    def __call__(self, network: nn.Module, inputs: tuple[Tensor, ...], targets: Tensor) -> Tensor:
        """The mean loss of a batch."""
        return self._loss(network(*inputs), targets).mean()
