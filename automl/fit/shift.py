"""What follows a layer: where its output can be shifted, its bias or the batch norm that alone consumes it; and what
that norm multiplies it by."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def takes_up_shift(network: nn.Module, name: str, norms: Mapping[str, str]) -> bool:
    """Whether there is such a place. `norms`: layer -> the batch norm that alone consumes it."""
    return getattr(network.get_submodule(name), "bias", None) is not None or name in norms


def add_shift(network: nn.Module, name: str, shift: Tensor, norms: Mapping[str, str]) -> None:
    """Add `shift`, [out], to what layer `name` makes, in its bias or else in the norm after it, if there is either."""
    bias = getattr(network.get_submodule(name), "bias", None)
    with torch.no_grad():
        if bias is not None:
            bias += shift.to(bias)
        elif name in norms:
            mean = network.get_buffer(f"{norms[name]}.running_mean")
            mean -= shift.to(mean)  # norm(y + s) with mean m equals norm(y) with mean m - s


def gain_after(network: nn.Module, name: str, norms: Mapping[str, str]) -> Tensor | None:
    """What the norm after layer `name` multiplies each output by, [out], float64; None without one."""
    norm = network.get_submodule(norms[name]) if name in norms else None
    if not isinstance(norm, _BatchNorm) or norm.running_var is None:
        return None
    spread = (norm.running_var.double() + norm.eps).sqrt()
    return (norm.weight.detach().double() if norm.affine else 1.0) / spread
