"""A small network to write and to run: a convolution with a norm, pooling, and a linear layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

IMAGES = torch.arange(2 * 3 * 8 * 8, dtype=torch.float32).reshape(2, 3, 8, 8).sin()
"""Two samples for it."""


def small_network(seed: int = 0, width: int = 6) -> nn.Module:
    """The network, in eval mode; the norm's running statistics are not the initial ones."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(
            *(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 4)),
        )
        network(torch.randn(16, 3, 8, 8))
    return network.eval()


def outputs_of(network: nn.Module, inputs: Tensor) -> Tensor:
    """What it computes."""
    with torch.no_grad():
        made: Tensor = network(inputs)
    return made
