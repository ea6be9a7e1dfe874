"""Weights that are something else while gradients are taken: rounded, or multiplied by gates; and put back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def multiplied(weights: Sequence[Tensor], factors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """A block in which each of `weights` is multiplied by its factor; gives copies of them, and puts those back.

    So any network and loss can have gates, and nothing is built into it: of gradients g taken at w z the
    chain rule makes dL/dw = g z and dL/dz = g w.
    """
    values = [weight.detach() * factor for weight, factor in zip(weights, factors, strict=True)]
    with replaced(weights, values) as before:
        yield before


@contextmanager
def replaced(weights: Sequence[Tensor], values: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """A block in which each of `weights` has other values; gives copies of them, and puts those back."""
    before = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        for weight, value in zip(weights, values, strict=True):
            weight.copy_(value)
    try:
        yield before
    finally:
        with torch.no_grad():
            for weight, as_it_was in zip(weights, before, strict=True):
                weight.copy_(as_it_was)
