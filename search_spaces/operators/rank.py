"""Rank: a convolution or linear layer as two layers in a row with few channels between them.

A weight of [made, read * taps] becomes U V, with V: [rank, read * taps], a layer of the same geometry with `rank`
outputs, and U: [made, rank], a linear layer or 1x1 convolution (Denton et al. 2014, "Exploiting linear structure within
convolutional networks"; Zhang et al. 2015, section 2.1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from search_spaces.errors import SpaceError
from search_spaces.graph.tensors import Layer, WeightTensor
from search_spaces.operators.base import Basis, Scores
from search_spaces.operators.options import RankOptions
from search_spaces.operators.sites import SiteOperator, layer_of
from search_spaces.operators.step import Step
from search_spaces.pricing.sheet import Pieces, Sheet
from search_spaces.types import Knob


@dataclass(frozen=True)
class RankStep(Step):
    """Which layers are factorised, and into how many channels between their factors."""

    operator: ClassVar[str] = "rank"

    ranks: Mapping[str, int] = field(default_factory=dict)
    """Layer -> its rank. It becomes `LAYER.0` and `LAYER.1`. A layer not named stays whole."""

    def to_record(self) -> dict[str, Any]:
        """The step as plain data."""
        return {"ranks": dict(self.ranks)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of `to_record`."""
        return cls(dict(record["ranks"]))


Split = Callable[[str, Layer, int], tuple[Tensor, Tensor, Tensor | None]]
"""The name of a layer, the layer, its rank -> U: [made, rank], V: [rank, read * taps], and the bias, [made], if there
is one."""


class Rank(SiteOperator):
    """Offers for each layer a share of its break-even rank, a * b / (a + b) with a = read * taps and b = made.

    The share is of what is left of the layer, so that costs rise with widths and shares, and a factorised layer never
    costs more than the whole one. Whole stay grouped and transposed convolutions, tensors that several layers share,
    and layers that rank 1 would make dearer where they are narrowest.
    """

    name: ClassVar[str] = "rank"
    marks: ClassVar[tuple[str, ...]] = ("rank",)
    options_type = RankOptions
    step_type = RankStep

    def __init__(self, basis: Basis, options: RankOptions) -> None:
        self.basis = basis
        least = basis.least.pieces
        dearer = (least.weights < least.read * least.taps + least.made)[:, 0]
        called = {str(node.target) for node in basis.recorded.network.graph.nodes if node.op == "call_module"}
        reasons = [
            _reason(basis.recorded.network, tensor, called)
            or ("costs more at rank 1 where it is narrowest" if d else None)
            for tensor, d in zip(basis.terms.tensors, dearer, strict=True)
        ]
        self.choose(reasons, options.exclude, "layers can be factorised:")
        levels = tuple(i for i in range(1, options.steps + 1) if i / options.steps >= options.min_keep - 1e-9)
        labels = (*(f"{level / options.steps:.0%}" for level in levels[:-1]), "whole")
        self.knobs = tuple(
            Knob(
                f"rank:{t.layers[0]}",
                levels,
                "of break-even",
                options.steps,
                labels=labels,
                operator="rank",
                site=t.name,
            )
            for t in self.tensors
        )
        self._steps = options.steps
        taps = basis.terms.taps
        self._reach = taps[self.sites, 0]
        self._taps = np.concatenate([taps, np.ones_like(taps)], axis=1)  # the second factor is 1x1
        top = levels[-2] / options.steps if len(levels) > 1 else 1.0
        self.basis = basis.changed(factored={int(site): top for site in self.sites})

    @property
    def fitted(self) -> bool:
        """Factors are those that the inputs of the layer make the best of."""
        return True

    def ranks(self, sheet: Sheet, levels: np.ndarray) -> np.ndarray:
        """The rank of each site with a knob, 0 for whole, where the layers are as `sheet` has them: [n_knobs]."""
        pieces = sheet.pieces
        read, made = pieces.read[self.sites, 0] * self._reach, pieces.made[self.sites, 0]
        even = read * made / np.maximum(read + made, 1)
        ranks = np.maximum(1, np.floor(levels / self._steps * even + 1e-9))
        chosen: np.ndarray = ranks * (levels < self._steps)
        return chosen

    def price(self, sheet: Sheet, levels: np.ndarray) -> Sheet:
        """The sheet with two pieces for each factorised layer."""
        whole = sheet.pieces
        ranks = np.zeros((len(whole.read), 1))
        ranks[self.sites, 0] = self.ranks(sheet, levels)
        there = ranks > 0
        read = np.concatenate([whole.read, ranks], axis=1)
        made = np.concatenate([np.where(there, ranks, whole.made), whole.made * there], axis=1)
        return sheet.changed(split=Pieces(read, made, self._taps, whole.positions))

    def canonical(self, before: Sheet, levels: np.ndarray) -> np.ndarray:
        """The highest share that comes to the same rank."""
        legal = np.array(self.knobs[0].levels)
        found = levels.copy()
        ranks = self.ranks(before, levels)
        for level in legal[:-1]:
            other = np.full(len(levels), level)
            same = (self.ranks(before, other) == ranks) & (ranks > 0) & (other > found)
            found = np.where(same, other, found)
        return super().canonical(before, found)

    def step(self, sheet: Sheet, levels: np.ndarray, scores: Scores | None) -> RankStep:
        """Name the rank of each layer that is left and does not stay whole."""
        active = self.active(sheet, levels)
        ranks = sheet.pieces.made[self.sites, 0].astype(int).tolist()
        chosen = zip(self.tensors, ranks, levels.tolist(), active, strict=True)
        return RankStep({t.layers[0]: rank for t, rank, level, there in chosen if there and level != self._steps})

    @staticmethod
    def rebuild(network: fx.GraphModule, step: RankStep, split: Split | None = None) -> fx.GraphModule:
        """Put two layers in the place of each. `split`: their weights, by default the SVD of the layer's."""
        split = split or plain_split
        for name, rank in step.ranks.items():
            if name not in dict(network.named_modules()):
                raise SpaceError(f"the plan names layer {name!r}, which this network does not have")
            layer = layer_of(network, name)
            rows = layer.weight.flatten(1)
            if not 1 <= rank <= min(rows.shape):
                raise SpaceError(f"the plan gives layer {name!r} rank {rank}, expected 1 to {min(rows.shape)}")
            network.set_submodule(name, _factors(layer, rank, *split(name, layer, rank)))
            _call_both(network.graph, name, rank)
        network.recompile()
        return network


def plain_split(name: str, layer: Layer, rank: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """The truncated singular value decomposition of a layer's weight, its values shared evenly, and the bias."""
    u, values, v = torch.linalg.svd(layer.weight.detach().flatten(1).double(), full_matrices=False)
    root = values[:rank].sqrt()
    return u[:, :rank] * root, root[:, None] * v[:rank], layer.bias


def _reason(network: nn.Module, tensor: WeightTensor, called: set[str]) -> str | None:
    """Why a tensor's layer stays whole, or None."""
    layer = layer_of(network, tensor.layers[0])
    if isinstance(layer, _ConvTransposeNd):
        return "is transposed"
    if isinstance(layer, _ConvNd) and layer.groups > 1:
        return "is grouped"
    if len(tensor.layers) > 1:
        return "is shared by several layers"
    return None if tensor.layers[0] in called else "is not called by itself"


def _factors(layer: Layer, rank: int, u: Tensor, v: Tensor, bias: Tensor | None) -> nn.Sequential:
    """The layers V and then U, of the kind and geometry of `layer`."""
    if isinstance(layer, nn.Linear):
        first: Layer = nn.Linear(layer.in_features, rank, bias=False)
        second: Layer = nn.Linear(rank, layer.out_features, bias=bias is not None)
    else:
        kind: Any = type(layer)
        geometry = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        first = kind(layer.in_channels, rank, *geometry, bias=False, padding_mode=layer.padding_mode)
        second = kind(rank, layer.out_channels, 1, bias=bias is not None)
    with torch.no_grad():
        first.weight.copy_(v.view_as(first.weight))
        second.weight.copy_(u.view_as(second.weight))
        if bias is not None:
            assert second.bias is not None
            second.bias.copy_(bias)
    return nn.Sequential(first, second).to(layer.weight).train(layer.training)


def _call_both(graph: fx.Graph, name: str, rank: int) -> None:
    """Call the two factors where the layer was called, so that what follows the second is seen to follow it."""
    for node in list(graph.nodes):
        if node.op != "call_module" or node.target != name:
            continue
        shape = node.meta.get("shape")
        with graph.inserting_before(node):
            first = graph.call_module(f"{name}.0", node.args, node.kwargs)
        if isinstance(shape, tuple):
            at = 1 if len(shape) > 2 and _is_convolution(graph, name) else len(shape) - 1
            first.meta["shape"] = (*shape[:at], rank, *shape[at + 1 :])
        node.target, node.args, node.kwargs = f"{name}.1", (first,), {}


def _is_convolution(graph: fx.Graph, name: str) -> bool:
    owner = graph.owning_module
    return owner is not None and isinstance(owner.get_submodule(f"{name}.0"), _ConvNd)
