"""An exponential moving average of a network's weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """The average of every parameter and buffer over the steps, what counts (such as seen batches) as it is last.

    The decay begins low and rises to what is asked for, `min(decay, (1 + steps) / (10 + steps))`, so that the first
    weights do not weigh for longer than they should (as in TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        self.tensors: list[Tensor] = [tensor.detach().clone() for tensor in _tensors(network)]
        """In the order of the network's parameters and buffers."""

    @torch.no_grad()
    def update(self, network: nn.Module, steps: int) -> None:
        """Take in the weights after `steps` steps."""
        keep = min(self._decay, (1 + steps) / (10 + steps))
        for mean, live in zip(self.tensors, _tensors(network), strict=True):
            if mean.is_floating_point():
                mean.lerp_(live.to(mean.dtype), 1 - keep)
            else:
                mean.copy_(live)

    @contextmanager
    def in_place_of(self, network: nn.Module) -> Iterator[None]:
        """Give `network` the average for the length of a block."""
        own = [tensor.detach().clone() for tensor in _tensors(network)]
        self.copy_to(network)
        try:
            yield
        finally:
            _copy(own, network)

    def copy_to(self, network: nn.Module) -> None:
        """Give `network` the average for good."""
        _copy(self.tensors, network)


@torch.no_grad()
def _copy(tensors: list[Tensor], network: nn.Module) -> None:
    for tensor, own in zip(tensors, _tensors(network), strict=True):
        own.copy_(tensor)


def _tensors(network: nn.Module) -> Iterator[Tensor]:
    yield from network.parameters()
    yield from network.buffers()
