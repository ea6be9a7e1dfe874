"""Rank: a convolution or linear layer as two layers in a row with few channels between them.

How a layer becomes two is its scheme (`search_spaces.operators.factors`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from torch import fx, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from search_spaces.errors import SpaceError
from search_spaces.graph.tensors import WeightTensor
from search_spaces.operators.base import Basis, Scores
from search_spaces.operators.factors import SCHEMES, Split, as_matrix, call_both, can_be_separable, pair, plain_split
from search_spaces.operators.options import RankOptions
from search_spaces.operators.sites import SiteOperator, layer_of
from search_spaces.operators.step import Step
from search_spaces.pricing.halves import Halves, break_even, cost_between
from search_spaces.pricing.sheet import Pieces, Sheet
from search_spaces.types import Knob


@dataclass(frozen=True)
class RankStep(Step):
    """Which layers are factorised, and into how many channels between their factors."""

    operator: ClassVar[str] = "rank"

    ranks: Mapping[str, int] = field(default_factory=dict)
    """Layer -> its rank. It becomes `LAYER.0` and `LAYER.1`. A layer not named stays whole."""

    schemes: Mapping[str, str] = field(default_factory=dict)
    """Layer -> "separable" where it is; the others are "svd"."""

    def to_record(self) -> dict[str, Any]:
        """The step as plain data."""
        return {"ranks": dict(self.ranks), **({"schemes": dict(self.schemes)} if self.schemes else {})}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of `to_record`."""
        return cls(dict(record["ranks"]), dict(record.get("schemes", {})))

    def scheme(self, layer: str) -> str:
        """How the layer becomes two."""
        return self.schemes.get(layer, "svd")


class Rank(SiteOperator):
    """Offers for each layer a share of its break-even rank, at which both factors cost what the layer does.

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
        self._find_schemes(options.scheme)
        least = basis.least.pieces
        dearer = (least.weights < self._cost_of_one(least))[:, 0]
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
        top = levels[-2] / options.steps if len(levels) > 1 else 1.0
        first, second, spread = (row[:, 0].tolist() for row in (*self._taps, np.maximum(self._spread, 1)))
        self.basis = basis.changed(factored={int(s): Halves(top, first[s], second[s], spread[s]) for s in self.sites})

    def _find_schemes(self, wanted: str) -> None:
        """Find how each site's layer would become two, and what of its taps and positions each of them has."""
        tensors, network = self.basis.terms.tensors, self.basis.recorded.network
        n = len(tensors)
        self._separable = np.zeros((n, 1), dtype=bool)
        self._spread = np.ones((n, 1))
        """At how many positions V is for one of the layer: more, where only U strides along the width."""
        first, second = self.basis.terms.taps.copy(), np.ones((n, 1))
        for site, tensor in enumerate(tensors if wanted != "svd" else ()):
            spread = _spread(network, tensor, fixed=bool(self.basis.terms.fixed_positions[site]))
            if spread is not None:
                self._separable[site], self._spread[site] = True, spread
                first[site], second[site] = tensor.shape[2:]
        self._taps = (first, second)

    def scheme(self, site: int) -> str:
        """How the layer of a site becomes two."""
        return "separable" if self._separable[site] else "svd"

    def _cost_of_one(self, pieces: Pieces) -> np.ndarray:
        """What each channel between the factors costs, in weights at each position of the layer: [n_sites, 1]."""
        first, second = self._taps
        cost: np.ndarray = cost_between(pieces.read, pieces.made, first, second, np.maximum(self._spread, 1))
        return cost

    def ranks(self, sheet: Sheet, levels: np.ndarray) -> np.ndarray:
        """The rank of each site with a knob, 0 for whole, where the layers are as `sheet` has them: [n_knobs]."""
        return self._ranks(self._even(sheet), levels)

    def _even(self, sheet: Sheet) -> np.ndarray:
        """The break-even rank of each site with a knob, as a fraction: [n_knobs]."""
        pieces = sheet.pieces
        even: np.ndarray = break_even(pieces.weights, self._cost_of_one(pieces))[self.sites, 0]
        return even

    def _ranks(self, even: np.ndarray, levels: np.ndarray) -> np.ndarray:
        ranks = np.maximum(1, np.floor(levels / self._steps * even + 1e-9))
        chosen: np.ndarray = ranks * (levels < self._steps)
        return chosen

    def price(self, sheet: Sheet, levels: np.ndarray) -> Sheet:
        """The sheet with two pieces for each factorised layer."""
        whole = sheet.pieces
        ranks = np.zeros((len(whole.read), 1))
        ranks[self.sites, 0] = self.ranks(sheet, levels)
        there = ranks > 0
        first, second = self._taps
        return sheet.changed(
            split=Pieces(
                read=np.hstack([whole.read, ranks]),
                made=np.hstack([np.where(there, ranks, whole.made), whole.made * there]),
                taps=np.hstack([np.where(there, first, whole.taps), second]),
                positions=whole.positions,
                spread=np.hstack([np.where(there, self._spread, 1.0), np.ones_like(ranks)]),
            )
        )

    def canonical(self, before: Sheet, levels: np.ndarray) -> np.ndarray:
        """The highest share that comes to the same rank."""
        legal = np.array(self.knobs[0].levels[:-1], dtype=np.int64)[:, None]
        even = self._even(before)
        same = self._ranks(even, legal) == self._ranks(even, levels)  # [n_levels, n_knobs]
        found = np.where(same, legal, levels).max(axis=0, initial=0)
        return super().canonical(before, np.maximum(found, levels))

    def step(self, sheet: Sheet, levels: np.ndarray, scores: Scores | None) -> RankStep:
        """Name rank and scheme of each layer that is left and does not stay whole."""
        active = self.active(sheet, levels)
        ranks = sheet.pieces.made[self.sites, 0].astype(int).tolist()
        chosen = zip(self.tensors, self.sites.tolist(), ranks, levels.tolist(), active, strict=True)
        found = {t.layers[0]: (site, r) for t, site, r, level, there in chosen if there and level != self._steps}
        separable = {layer: "separable" for layer, (site, _) in found.items() if self._separable[site]}
        return RankStep({layer: rank for layer, (_, rank) in found.items()}, separable)

    @staticmethod
    def rebuild(network: fx.GraphModule, step: RankStep, split: Split | None = None) -> fx.GraphModule:
        """Put two layers in the place of each. `split`: their weights, by default the SVD of the layer's."""
        split = split or plain_split
        for name, rank in step.ranks.items():
            if name not in dict(network.named_modules()):
                raise SpaceError(f"the plan names layer {name!r}, which this network does not have")
            layer, scheme = layer_of(network, name), step.scheme(name)
            if scheme not in SCHEMES or (scheme == "separable" and not can_be_separable(layer)):
                raise SpaceError(f"the plan factorises layer {name!r} by {scheme!r}, which it cannot be")
            most = min(as_matrix(layer.weight, scheme).shape)
            if not 1 <= rank <= most:
                raise SpaceError(f"the plan gives layer {name!r} rank {rank}, expected 1 to {most}")
            u, v, bias = split(name, layer, rank, scheme)
            network.set_submodule(name, pair(layer, scheme, u, v, bias))
            call_both(network.graph, name)
        network.recompile()
        return network


def _spread(network: nn.Module, tensor: WeightTensor, *, fixed: bool) -> float | None:
    """At how many positions a kernel of one column is for one of the layer; None where it cannot be separable.

    `fixed`: whether the sizes of its maps follow from no width.
    """
    layer = network.get_submodule(tensor.layers[0])
    if not isinstance(layer, nn.Conv2d) or not can_be_separable(layer) or layer.groups > 1:
        return None
    width, stride = layer.kernel_size[1], layer.stride[1]
    around = layer.padding if isinstance(layer.padding, str) else 2 * layer.padding[1]
    if stride == 1 and around in ("same", layer.dilation[1] * (width - 1)):
        return 1.0  # as wide before as after
    return tensor.width / tensor.width_made if fixed and tensor.width_made else None


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
