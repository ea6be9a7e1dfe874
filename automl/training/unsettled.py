"""Norms that are trained after layers in few bits have the statistics of what they read again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, fx, nn

from automl.tasks.batches import Batch
from automl.util.modes import evaluating
from search_spaces.settled import settling_norms

SAMPLES = 1024
"""From which statistics are taken."""


@torch.no_grad()
def unsettle_norms(network: fx.GraphModule, batches: Iterable[Batch]) -> None:
    """Give each norm after a layer in few bits mean and variance of what it reads, and a factor that undoes them.

    A settled norm (`search_spaces.settled`) claims a mean of 0 and a variance of 1. As long as it computes with these
    it does nothing; with the statistics of a batch, as in training, it would make another network. Now it computes the
    same with both. Statistics are those of the first `SAMPLES` samples of `batches`.
    """
    norms = settling_norms(network)
    sums = {name: torch.zeros(3, norm.num_features, dtype=torch.float64) for name, norm in norms.items()}
    hooks = [norm.register_forward_pre_hook(_adding(sums[name])) for name, norm in norms.items()]
    seen = 0
    try:
        with evaluating(network):
            for inputs, targets in batches:
                network(*inputs)
                seen += len(targets)
                if seen >= SAMPLES:
                    break
    finally:
        for hook in hooks:
            hook.remove()
    for name, norm in norms.items():
        count, total, squares = sums[name]
        if not (count > 1).all():
            continue
        mean, old, was = total / count, norm.running_mean, norm.running_var
        assert old is not None and was is not None
        variance = (squares / count - mean.square()).clamp_min(0)
        factor = norm.weight.double() / (was.double() + norm.eps).sqrt()
        norm.bias.add_(factor * (mean - old))
        norm.weight.copy_(factor * (variance + norm.eps).sqrt())
        old.copy_(mean)
        was.copy_(variance)


def _adding(sums: Tensor) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    """A hook that adds to numbers, sums and sums of squares of each channel: [3, channels]."""

    def add(norm: nn.Module, args: tuple[Any, ...]) -> None:
        x = args[0]  # [n, channels, ...]
        number = x.numel() // x.shape[1]
        variance, mean = (part.double() for part in torch.var_mean(x, [0, *range(2, x.ndim)], correction=0))
        sums.add_(number * torch.stack([torch.ones_like(mean), mean, variance + mean.square()]))

    return add
