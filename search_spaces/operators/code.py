"""Code: the number format of the weights of each convolution and linear layer.

Integers of 4 or 8 bits times a scale for each output channel, symmetric around 0. The network computes with the values
that they stand for, in floating point, and carries each scale as a buffer `weight_scale` beside its weight; its packed
file holds the integers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.modules.conv import _ConvTransposeNd

from search_spaces.codecs.widths import WIDTHS
from search_spaces.errors import SpaceError
from search_spaces.graph.tensors import Layer, WeightTensor
from search_spaces.operators.base import Basis, Scores
from search_spaces.operators.options import CodeOptions
from search_spaces.operators.sites import SiteOperator, layer_of, piece_names
from search_spaces.operators.step import Step
from search_spaces.pricing.metrics import FLOAT_BITS
from search_spaces.pricing.sheet import Sheet
from search_spaces.types import Knob

MIN_WEIGHTS = 256
"""A smaller tensor keeps its format: its integers would save less than their lines in the header take."""

SCALE = "weight_scale"
"""The buffer of a layer that holds the scale of each output channel."""


@dataclass(frozen=True)
class CodeStep(Step):
    """Which layers have weights of which format."""

    operator: ClassVar[str] = "code"
    packed: ClassVar[bool] = True

    formats: Mapping[str, str] = field(default_factory=dict)
    """Layer -> "int4" or "int8". A layer not named keeps its numbers."""

    def to_record(self) -> dict[str, Any]:
        """The step as plain data."""
        return {"formats": dict(self.formats)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of `to_record`."""
        return cls(dict(record["formats"]))


Quantize = Callable[[str, Layer, int], tuple[Tensor, Tensor, Tensor | None]]
"""The name of a layer, the layer, its bits -> the weight, as it is shaped, the scale, [made], and the bias, if any."""


class Code(SiteOperator):
    """Offers for each layer the number format of its weights.

    Whole stay transposed convolutions, whose output channels lie in groups, tensors that several layers share, and
    those of fewer than `MIN_WEIGHTS` weights.
    """

    name: ClassVar[str] = "code"
    marks: ClassVar[tuple[str, ...]] = ("code",)
    options_type = CodeOptions
    step_type = CodeStep

    def __init__(self, basis: Basis, options: CodeOptions) -> None:
        self.basis = basis
        reasons = [_reason(basis.recorded.network, tensor) for tensor in basis.terms.tensors]
        self.choose(reasons, options.exclude, "weights can be integers:")
        bits = tuple(sorted(options.bits))
        labels = (*(f"int{b}" for b in bits), f"float{FLOAT_BITS}")
        self.knobs = tuple(
            Knob(f"code:{t.layers[0]}", (*bits, FLOAT_BITS), "bits", labels=labels, operator="code", site=t.name)
            for t in self.tensors
        )
        self.basis = basis.changed(coded=tuple(int(site) for site in self.sites))

    def price(self, sheet: Sheet, levels: np.ndarray) -> Sheet:
        """The sheet with so many bits for each weight."""
        bits = np.full(len(sheet.pieces.read), float(FLOAT_BITS))
        bits[self.sites] = levels
        return sheet.changed(bits=bits)

    def step(self, sheet: Sheet, levels: np.ndarray, scores: Scores | None) -> CodeStep:
        """Name the format of each layer that is left and does not keep its own; both factors of a layer have one."""
        active = self.active(sheet, levels)
        formats: dict[str, str] = {}
        for t, site, level, there in zip(self.tensors, self.sites, levels.tolist(), active, strict=True):
            if there and level != FLOAT_BITS:
                names = piece_names(t, sheet.pieces, int(site))
                formats |= {name.rpartition(".")[0]: f"int{level}" for name in names}
        return CodeStep(formats)

    @staticmethod
    def rebuild(network: fx.GraphModule, step: CodeStep, quantize: Quantize | None = None) -> fx.GraphModule:
        """Round the weights. `quantize`: how, by default to the nearest of a scale that reaches the largest weight."""
        quantize = quantize or plain_quantize
        modules = dict(network.named_modules())
        for name, form in step.formats.items():
            if name not in modules:
                raise SpaceError(f"the plan names layer {name!r}, which this network does not have")
            if form not in {f"int{bits}" for bits in WIDTHS}:
                raise SpaceError(f"the plan gives layer {name!r} the format {form!r}, expected int4 or int8")
            layer = layer_of(network, name)
            weight, scale, bias = quantize(name, layer, int(form.removeprefix("int")))
            with torch.no_grad():
                layer.weight.copy_(weight)
                if bias is not None and layer.bias is not None:
                    layer.bias.copy_(bias)
            layer.register_buffer(SCALE, scale)
        return network


def plain_quantize(name: str, layer: Layer, bits: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Round each weight to the nearest integer times the scale that lets its channel's largest be the highest."""
    weight = layer.weight.detach()
    highest = 2 ** (bits - 1) - 1
    scale = (weight.flatten(1).abs().amax(1) / highest).clamp_min(torch.finfo(torch.float32).tiny).float()
    along = scale.view(-1, *[1] * (weight.ndim - 1))
    integers = (weight / along).round().clamp(-highest, highest) + 0.0  # no -0.0, which is no integer
    return integers * along, scale, layer.bias


def _reason(network: nn.Module, tensor: WeightTensor) -> str | None:
    """Why a tensor keeps its format, or None."""
    if isinstance(layer_of(network, tensor.layers[0]), _ConvTransposeNd):
        return "is transposed"
    if len(tensor.layers) > 1:
        return "is shared by several layers"
    return f"has fewer than {MIN_WEIGHTS} weights" if tensor.size < MIN_WEIGHTS else None
