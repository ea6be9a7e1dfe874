"""What agents with networks share: weights drawn from a given generator, and one thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

Kind = TypeVar("Kind", bound=nn.Module)


def seeded(kind: type[Kind], *arguments: int, bound: float, rng: np.random.Generator, **options: Any) -> Kind:
    """A new `kind(*arguments, **options)` whose parameters are all drawn from U(-bound, bound) by `rng`, in order."""
    module = kind(*arguments, device="meta", **options)  # there nothing is drawn from the global generator
    module.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.from_numpy(rng.uniform(-bound, bound, tuple(parameter.shape))))
    return module


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums are split among threads, so their rounding depends on how many there are: here always one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
