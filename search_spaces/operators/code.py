"""Code: the number format of the weights of each convolution and linear layer, and of what they read.

Integers of one to eight bits (`search_spaces.codecs.number_formats`) times a scale for each output channel, symmetric
around 0. The network computes with the values that they stand for, in floating point, and carries each scale as a
buffer `weight_scale` beside its weight; its packed file holds the integers. Or numbers that the weights of a layer
share, its codebook, in a buffer `weight_codebook`; the file holds their places in it. What layers of integers read may
be rounded to 8 bits too (`search_spaces.graph.inputs`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.modules.conv import _ConvTransposeNd

from search_spaces.codecs.bitmask import stored
from search_spaces.codecs.entropy import fits
from search_spaces.codecs.number_formats import ALL_FORMATS, BY_LEVEL, FLOAT_INPUTS, INPUT_BITS, NumberFormat
from search_spaces.errors import SpaceError
from search_spaces.graph.inputs import quantize_inputs
from search_spaces.graph.tensors import Layer, WeightTensor
from search_spaces.operators.base import Basis, Scores
from search_spaces.operators.options import CodeOptions
from search_spaces.operators.shared import clustered
from search_spaces.operators.sites import SiteOperator, layer_of, piece_names
from search_spaces.operators.step import Step
from search_spaces.pricing.metrics import FLOAT_BITS
from search_spaces.pricing.sheet import Sheet
from search_spaces.types import Knob

MIN_WEIGHTS = 256
"""A smaller tensor keeps its format: its integers would save less than their lines in the header take."""

SCALE = "weight_scale"
"""The buffer of a layer that holds the scale of each output channel."""
BOOK = "weight_codebook"
"""The buffer of a layer that holds the numbers that its weights share."""

_REACH = {"binary": 1.0, "ternary": 1.5, "int2": 1.9}
"""What the highest integer stands for in mean magnitudes, near the least squared error of normal weights."""


_TAIL = 4.0
"""Few weights of a channel are larger than so many times their root mean square."""


@dataclass(frozen=True)
class CodeStep(Step):
    """Which layers have weights, and read inputs, of which format."""

    operator: ClassVar[str] = "code"
    packed: ClassVar[bool] = True

    formats: Mapping[str, str] = field(default_factory=dict)
    """Layer -> the name of a format, such as "int4". A layer not named keeps its numbers."""
    pruned: bool = False
    """Whether weights that are 0 stay 0 also where the format has no 0, as they do in all others; and are not counted
    among those that an entropy code has so many bits for."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Layer -> the format of what it reads, "int8". A layer not named reads floating point."""

    def to_record(self) -> dict[str, Any]:
        """The step as plain data."""
        more: dict[str, Any] = {"pruned": True} if self.pruned else {}
        return {"formats": dict(self.formats), **more, **({"inputs": dict(self.inputs)} if self.inputs else {})}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of `to_record`."""
        return cls(dict(record["formats"]), record.get("pruned", False) is True, dict(record.get("inputs", {})))


Quantize = Callable[[str, Layer, NumberFormat, bool], tuple[Tensor, Tensor, Tensor | None]]
"""The name of a layer, the layer, its format, and whether zeros stay -> the weight, as it is shaped, the scale, [made],
or the codebook, [centroids], and the bias, if any."""


class Code(SiteOperator):
    """Offers for each layer the number format of its weights, and with one of integers that of what it reads.

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
        formats = options.chosen
        levels, names = (tuple(getattr(form, what) for form in formats) for what in ("level", "name"))
        self.knobs = tuple(
            Knob(
                f"code:{t.layers[0]}",
                (*levels, FLOAT_BITS),
                "bits",
                labels=(*names, f"float{FLOAT_BITS}"),
                operator="code",
                site=t.name,
            )
            for t in self.tensors
        )
        self.pruned = basis.storage.masked or any(not stored(self.layer(t.name).weight).all() for t in self.tensors)
        """Whether any weight may have been pruned, by an operator before or by the user; where none was, a zero is a
        weight like any other, and a format without 0 needs no mask."""
        coded = tuple(int(site) for site in self.sites)
        called = {str(node.target) for node in basis.recorded.network.graph.nodes if node.op == "call_module"}
        wanted = coded if options.inputs != FLOAT_INPUTS else ()
        reads = tuple(site for site in wanted if basis.terms.tensors[site].layers[0] in called)
        self.inputs = options.inputs
        self.quantized_inputs = np.isin(self.sites, reads)
        """Whether the layer of each knob reads numbers of 8 bits once its weights are integers: [n_knobs] bool. One
        that is a part of a larger call does not."""
        self._is_read = np.isin(np.arange(len(basis.terms.tensors)), reads)
        """The same of each site: [n_sites] bool."""
        self.basis = basis.changed(coded=coded, formats=formats, pruned=self.pruned, quantized_inputs=reads)

    def price(self, sheet: Sheet, levels: np.ndarray) -> Sheet:
        """The sheet with the format of each weight. With zeros among them a weight needs an operand that has them."""
        formats = np.full((*levels.shape[:-1], len(self._is_read)), FLOAT_BITS)
        formats[..., self.sites] = levels
        sheet = sheet.changed(formats=formats, bits=self._bits[formats])
        if not self.quantized_inputs.any():
            return sheet
        read = self._is_read & (formats < FLOAT_BITS)
        return sheet.changed(input_bits=np.where(read, float(INPUT_BITS[self.inputs]), float(FLOAT_BITS)))

    @cached_property
    def _bits(self) -> np.ndarray:
        """Level -> bits of the operand: [FLOAT_BITS + 1]."""
        bits = np.full(FLOAT_BITS + 1, float(FLOAT_BITS))
        for level, form in BY_LEVEL.items():
            bits[level] = form.with_zero.bits if self.pruned else form.bits
        return bits

    def step(self, sheet: Sheet, levels: np.ndarray, scores: Scores | None) -> CodeStep:
        """Name the format of each layer that is left and does not keep its own; both factors of a layer have one."""
        active = self.active(sheet, levels)
        formats: dict[str, str] = {}
        inputs: dict[str, str] = {}
        sites = zip(self.tensors, self.sites, levels.tolist(), active, self.quantized_inputs.tolist(), strict=True)
        for t, site, level, there, reads in sites:
            if there and level != FLOAT_BITS:
                layers = [name.rpartition(".")[0] for name in piece_names(t, sheet.pieces, int(site))]
                formats |= dict.fromkeys(layers, BY_LEVEL[level].name)
                inputs |= dict.fromkeys(layers, self.inputs) if reads else {}
        chosen = [ALL_FORMATS[name] for name in formats.values()]
        pruned = self.pruned and any(form.coded or not form.has_zero for form in chosen)
        return CodeStep(formats, pruned, inputs)

    @staticmethod
    def rebuild(network: fx.GraphModule, step: CodeStep, quantize: Quantize | None = None) -> fx.GraphModule:
        """Round the weights, and what layers read. `quantize`: how weights are rounded, by default to the nearest of a
        scale that reaches the largest."""
        quantize = quantize or plain_quantize
        modules = dict(network.named_modules())
        for name, form in step.formats.items():
            if name not in modules:
                raise SpaceError(f"the plan names layer {name!r}, which this network does not have")
            if form not in ALL_FORMATS:
                raise SpaceError(
                    f"the plan gives layer {name!r} the format {form!r}, expected one of {', '.join(ALL_FORMATS)}"
                )
            layer = layer_of(network, name)
            weight, table, bias = quantize(name, layer, ALL_FORMATS[form], step.pruned)
            with torch.no_grad():
                layer.weight.copy_(weight)
                if bias is not None and layer.bias is not None:
                    layer.bias.copy_(bias)
            buffer = BOOK if ALL_FORMATS[form].centroids else SCALE
            layer.register_buffer(buffer, table.clone())  # its own, whoever keeps the other
        unknown = [form for form in step.inputs.values() if form not in INPUT_BITS or form == FLOAT_INPUTS]
        if unknown:
            raise SpaceError(f"the plan has inputs of the format {unknown[0]!r}, expected int8")
        if step.inputs:
            quantize_inputs(network, step.inputs)
        return network


def plain_quantize(name: str, layer: Layer, form: NumberFormat, pruned: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    """Round each weight to the nearest integer times the scale that lets its channel's largest be the highest.

    In a format of few levels most weights would be lost so; there the highest is `_REACH` times the mean magnitude. In
    one for an entropy code the scale is the least that keeps to its bits. Numbers that weights share are by k-means.
    """
    weight = layer.weight.detach()
    if form.centroids:
        book, places = clustered(weight, form.centroids)
        return book[places], book, layer.bias
    if form.coded:
        integers, scale = within_bits(weight.flatten(1), form, pruned=pruned)
        return integers.view_as(weight) * scale.view(-1, *[1] * (weight.ndim - 1)), scale, layer.bias
    magnitude = weight.flatten(1).abs()
    reach = magnitude.mean(1) * _REACH[form.name] if form.name in _REACH else magnitude.amax(1)
    scale = (reach / form.highest).clamp_min(torch.finfo(torch.float32).tiny).float()
    along = scale.view(-1, *[1] * (weight.ndim - 1))
    integers = nearest_integer(weight / along, form)
    if pruned:
        integers = integers.masked_fill(weight == 0, 0)
    return integers * along, scale, layer.bias


def within_bits(weight: Tensor, form: NumberFormat, *, pruned: bool) -> tuple[Tensor, Tensor]:
    """The nearest integers, [out, features] as floats, and a scale, [out], in proportion to each channel's magnitude:
    the least, to a hundredth, at which they are coded in the bits of `form`; so large that the highest integer is at
    least `_TAIL` root mean squares. Zeros stay zeros, and do not count if weights were `pruned`."""
    spread, there = channel_spread(weight), counted(weight, pruned=pruned)

    def enough(step: float) -> bool:
        return fits(nearest_integer(weight / (step * spread)[:, None], form), form, there)

    low = high = _TAIL / form.highest
    while not enough(high):
        low, high = high, 1.5 * high
    while high - low > 0.01 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    scale = high * spread
    return nearest_integer(weight / scale[:, None], form), scale


def counted(weight: Tensor, *, pruned: bool) -> Tensor:
    """Which weights an entropy code has bits for: all, or if some were `pruned` those that are not 0. Bool."""
    return weight != 0 if pruned else torch.ones_like(weight, dtype=torch.bool)


def channel_spread(weight: Tensor) -> Tensor:
    """The root mean square of the weights of each output channel, [out, features], that are not 0: [out], above 0."""
    numbers = (weight != 0).sum(1).clamp_min(1)
    spread: Tensor = (weight.double().square().sum(1) / numbers).sqrt().float()
    return spread.clamp_min(torch.finfo(torch.float32).tiny)


def nearest_integer(ratio: Tensor, form: NumberFormat) -> Tensor:
    """The nearest integer of `form` to each number, in its type; 0 is no -0.0, which is no integer."""
    nearest = ratio.round() if form.has_zero else 2 * (ratio / 2).floor() + 1
    return nearest.clamp(-form.highest, form.highest) + 0.0


def _reason(network: nn.Module, tensor: WeightTensor) -> str | None:
    """Why a tensor keeps its format, or None."""
    if isinstance(layer_of(network, tensor.layers[0]), _ConvTransposeNd):
        return "is transposed"
    if len(tensor.layers) > 1:
        return "is shared by several layers"
    return f"has fewer than {MIN_WEIGHTS} weights" if tensor.size < MIN_WEIGHTS else None
