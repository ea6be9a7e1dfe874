"""Norms moved into the scales of the integers before them, as far as a file need not tell them."""

from __future__ import annotations

from typing import TypeGuard

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from search_spaces.codecs.integers import dequantized, integers_of
from search_spaces.graph.lone_norms import movable_norms
from search_spaces.operators.code import BOOK, SCALE, CodeStep
from search_spaces.plan import Plan


def settle_coded(network: nn.Module, plan: Plan) -> None:
    """Settle the norms of a network if `plan`, which it was made by, has a layer in few bits: its file is priced so."""
    if coded(network, plan):
        settle_norms(network)


def coded(network: nn.Module, plan: Plan) -> TypeGuard[fx.GraphModule]:
    """Whether `plan`, by which a network was made, has a layer in few bits; only recorded networks have."""
    return bool(plan.get(CodeStep).formats) and isinstance(network, fx.GraphModule)


@torch.no_grad()
def settle_norms(network: fx.GraphModule) -> None:
    """Have each batch norm after a layer of integer weights add a number to each channel, and do nothing else.

    What it multiplies by goes into the layer's scales, and its signs into the integers; its mean and the layer's bias
    go into its own bias. The network computes the same, to rounding, and of four vectors a file has one to tell. After
    a layer whose weights share numbers, which have no scales, it multiplies too, and a file has two to tell.

    What is left to tell, scales and biases, becomes numbers that bfloat16 holds: that moves each by 2^-9 of it at most,
    where weights were rounded by more, and half its bytes are zeros. The price of a network counts on all this
    (`search_spaces.pricing.settled_norms`).
    """
    norms = settling_norms(network)
    for name, layer in network.named_modules():
        if name in norms:
            _settle(layer, norms[name])
        elif isinstance(scale := getattr(layer, SCALE, None), Tensor):
            _scale(layer, torch.ones_like(scale))


def settling_norms(network: fx.GraphModule) -> dict[str, _BatchNorm]:
    """Layer in few bits -> the norm that can be moved into it."""
    found = movable_norms(network)
    layers = {name: network.get_submodule(name) for name in found}
    few = {name for name, layer in layers.items() if any(hasattr(layer, table) for table in (SCALE, BOOK))}
    return {name: norm for name, norm in found.items() if name in few}


def _settle(layer: nn.Module, norm: _BatchNorm) -> None:
    mean, variance, bias = norm.running_mean, norm.running_var, getattr(layer, "bias", None)
    assert mean is not None and variance is not None
    factor = norm.weight.double() / (variance.double() + norm.eps).sqrt()  # [out]
    shift = norm.bias.double() + factor * ((bias.double() if bias is not None else 0.0) - mean.double())
    if isinstance(getattr(layer, SCALE, None), Tensor):
        if not _scale(layer, factor):
            return
        factor = torch.ones_like(factor)
    norm.bias.copy_(_brief(shift))
    norm.weight.copy_(_brief(factor))
    mean.zero_()
    variance.fill_(1.0 - norm.eps)
    if bias is not None:
        bias.zero_()


def _scale(layer: nn.Module, factor: Tensor) -> bool:
    """Multiply the weights, integers times a scale, by a factor for each output channel; False where they are others.

    A channel that is switched off has the smallest scale that there is, since without one it would have no integers.
    """
    weight, scale = layer.get_parameter("weight"), layer.get_buffer(SCALE)
    integers = integers_of(weight, scale)
    larger = _brief(scale.double() * factor.abs()).clamp_min(torch.finfo(torch.bfloat16).tiny)
    if integers is None or not larger.isfinite().all():
        return False
    signs = torch.where(factor < 0, -1, 1).to(torch.int8)
    signed = integers * signs.view(-1, *[1] * (weight.ndim - 1))
    weight.copy_(dequantized(signed, larger))
    scale.copy_(larger)
    return True


def _brief(numbers: Tensor) -> Tensor:
    """The nearest numbers that bfloat16 holds, in float32."""
    return numbers.to(torch.bfloat16).float()
