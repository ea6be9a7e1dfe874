"""Eval mode, or gradients, for the length of a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(*networks: nn.Module) -> Iterator[None]:
    """Set every module to eval mode, then give each its own mode back."""
    training = [module for network in networks for module in network.modules() if module.training]
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def differentiating(network: nn.Module) -> Iterator[None]:
    """Eval mode with gradients for every parameter; those that had none have none again after."""
    frozen = [parameter for parameter in network.parameters() if not parameter.requires_grad]
    try:
        for parameter in frozen:
            parameter.requires_grad_(True)
        with evaluating(network), torch.enable_grad():
            yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
