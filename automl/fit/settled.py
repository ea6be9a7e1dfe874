"""Norms moved into the scales of the integers before them, as far as a file need not tell them."""

from __future__ import annotations

import torch
from torch import Tensor, fx
from torch.nn.modules.batchnorm import _BatchNorm

from automl.fast.fold import lone_norms
from automl.fit.rounding import dequantized
from search_spaces.codecs.integers import integers_of
from search_spaces.operators.code import BOOK, SCALE


@torch.no_grad()
def settle_norms(network: fx.GraphModule) -> None:
    """Have each batch norm after a layer of integer weights add a number to each channel, and do nothing else.

    What it multiplies by goes into the layer's scales, and its signs into the integers; its mean and the layer's bias
    go into its own bias. The network computes the same, to rounding, and of four vectors a file has one to tell. After
    a layer whose weights share numbers, which have no scales, it multiplies too, and a file has two to tell.

    What is left to tell, scales and biases, becomes numbers that bfloat16 holds: that moves each by 2^-9 of it at most,
    where weights were rounded by more, and half its bytes are zeros.
    """
    for name, norm_name in lone_norms(network).items():
        layer, norm = network.get_submodule(name), network.get_submodule(norm_name)
        scale, weight = getattr(layer, SCALE, None), layer.get_parameter("weight")
        shares = isinstance(getattr(layer, BOOK, None), Tensor)
        if not (shares or isinstance(scale, Tensor)) or not isinstance(norm, _BatchNorm) or not norm.affine:
            continue
        mean, variance = norm.running_mean, norm.running_var
        if mean is None or variance is None:
            continue
        factor = norm.weight.double() / (variance.double() + norm.eps).sqrt()  # [out]
        bias = getattr(layer, "bias", None)
        shift = norm.bias.double() + factor * ((bias.double() if bias is not None else 0.0) - mean.double())
        if isinstance(scale, Tensor):
            if not _scaled(weight, scale, factor):
                continue
            factor = torch.ones_like(factor)
        norm.bias.copy_(_brief(shift))
        norm.weight.copy_(_brief(factor))
        mean.zero_()
        variance.fill_(1.0 - norm.eps)
        if bias is not None:
            bias.zero_()


def _scaled(weight: Tensor, scale: Tensor, factor: Tensor) -> bool:
    """Multiply integers times a scale by a factor for each output channel, in place; False where that is not to be."""
    integers = integers_of(weight, scale)
    larger = _brief(scale.double() * factor.abs())
    if integers is None or not ((larger > 0) & larger.isfinite()).all():  # a channel switched off has no scale
        return False
    signed = integers * factor.sign().to(torch.int8).view(-1, *[1] * (weight.ndim - 1))
    weight.copy_(dequantized(signed, larger))
    scale.copy_(larger)
    return True


def _brief(numbers: Tensor) -> Tensor:
    """The nearest numbers that bfloat16 holds, in float32."""
    return numbers.to(torch.bfloat16).float()
