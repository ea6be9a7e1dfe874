"""The batch norms of a network that keep statistics of what they saw."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def tracking_norms(network: nn.Module) -> list[_BatchNorm]:
    """The batch norms of `network` that keep running statistics, by which they normalise in eval mode."""
    return [m for m in network.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
