"""The modes of a network: train mode, and eval mode or gradients for the length of a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from automl.util.tracking_norms import tracking_norms


def to_train(network: nn.Module, *, norms_stay: bool = False) -> None:
    """Set every module to train mode; if `norms_stay`, batch norms that keep statistics to eval mode."""
    network.train()
    for norm in tracking_norms(network) if norms_stay else ():
        norm.eval()


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
def differentiating(network: nn.Module, parameters: bool = True) -> Iterator[None]:
    """Eval mode with gradients, for every parameter or for none; afterwards each has them, or not, as before."""
    changed = [parameter for parameter in network.parameters() if parameter.requires_grad != parameters]
    try:
        for parameter in changed:
            parameter.requires_grad_(parameters)
        with evaluating(network), torch.enable_grad():
            yield
    finally:
        for parameter in changed:
            parameter.requires_grad_(not parameters)
