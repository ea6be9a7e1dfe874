"""All that a training changes in a network, copied and put back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def live(network: nn.Module) -> Iterator[Tensor]:
    """Every parameter, then every buffer, as they are in the network."""
    yield from network.parameters()
    yield from network.buffers()


def copied(tensors: Iterable[Tensor]) -> list[Tensor]:
    """A copy of each."""
    return [tensor.detach().clone() for tensor in tensors]


@torch.no_grad()
def put(tensors: Sequence[Tensor], network: nn.Module) -> None:
    """Give `network` these tensors, in the order of `live`."""
    for tensor, own in zip(tensors, live(network), strict=True):
        own.copy_(tensor)


@contextmanager
def put_back(network: nn.Module) -> Iterator[None]:
    """After the block `network` has the parameters and buffers that it had before."""
    own = copied(live(network))
    try:
        yield
    finally:
        put(own, network)
