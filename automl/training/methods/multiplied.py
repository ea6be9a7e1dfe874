"""Weights that are something else while gradients are taken: multiplied by gates, and put back."""

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
    before = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        for weight, factor in zip(weights, factors, strict=True):
            weight.mul_(factor)
    try:
        yield before
    finally:
        with torch.no_grad():
            for weight, as_it_was in zip(weights, before, strict=True):
                weight.copy_(as_it_was)
