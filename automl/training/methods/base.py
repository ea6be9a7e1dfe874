"""What is done to gradients between the backward pass and the step."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

Regulariser = Callable[[nn.Module, float], None]
"""(network, progress) -> nothing; adds to the `.grad` of the network's parameters. `progress`: the part of all steps
that is done, in [0, 1)."""


class KeepZeros:
    """Weights that are zero stay zero: their gradients are set to zero, and decay and momentum of zero are zero."""

    def __init__(self, network: nn.Module, names: Iterable[str]) -> None:
        """`names`: parameters of `network`, whose zeros now are those to keep."""
        self._kept: dict[str, Tensor] = {name: network.get_parameter(name).detach() != 0 for name in names}

    def __call__(self, network: nn.Module, progress: float) -> None:
        """Set gradients of zeros to zero."""
        with torch.no_grad():
            for name, kept in self._kept.items():
                gradient = network.get_parameter(name).grad
                if gradient is not None:
                    gradient.mul_(kept.to(gradient.device))
