"""An exponential moving average of a network's weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from automl.util.weights import copied, live


class Average:
    """The average of every parameter and buffer over the steps, what counts (such as seen batches) as it is last.

    The decay begins low and rises to what is asked for, `min(decay, (1 + steps) / (10 + steps))`, so that the first
    weights do not weigh for longer than they should (as in TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        self.tensors: list[Tensor] = copied(live(network))
        """In the order of the network's parameters and buffers."""

    @torch.no_grad()
    def update(self, network: nn.Module, steps: int) -> None:
        """Take in the weights after `steps` steps."""
        keep = min(self._decay, (1 + steps) / (10 + steps))
        for mean, now in zip(self.tensors, live(network), strict=True):
            if mean.is_floating_point():
                mean.lerp_(now.to(mean.dtype), 1 - keep)
            else:
                mean.copy_(now)
