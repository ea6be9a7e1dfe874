"""Rank: a convolution or linear layer as two or more layers in a row with few channels between them.

Which layers those are is its scheme (`search_spaces.operators.schemes`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from torch import fx, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from search_spaces.errors import SpaceError
from search_spaces.graph.tensors import WeightTensor
from search_spaces.operators.base import Basis, Scores
from search_spaces.operators.factors import Ranks, Split, call_all, in_a_row, plain_split
from search_spaces.operators.options import RankOptions
from search_spaces.operators.schemes import SCHEMES, fits, most, row_of
from search_spaces.operators.sites import SiteOperator, layer_of, matches, require_matches
from search_spaces.operators.step import Step
from search_spaces.pricing.parts import WHOLE, Parts, Row
from search_spaces.pricing.sheet import Sheet
from search_spaces.types import Knob


@dataclass(frozen=True)
class RankStep(Step):
    """Which layers are factorised, and into how many channels between their factors."""

    operator: ClassVar[str] = "rank"

    ranks: Mapping[str, int] = field(default_factory=dict)
    """Layer -> its rank. It becomes `LAYER.0`, `LAYER.1` and so on. A layer not named stays whole."""

    schemes: Mapping[str, str] = field(default_factory=dict)
    """Layer -> "separable", "tucker" or "cp" where it is; the others are "svd"."""

    read_ranks: Mapping[str, int] = field(default_factory=dict)
    """Layer -> of "tucker", the rank of what it reads; that of what it makes is among `ranks`."""

    def to_record(self) -> dict[str, Any]:
        """The step as plain data."""
        more = {name: dict(entries) for name in ("schemes", "read_ranks") if (entries := getattr(self, name))}
        return {"ranks": dict(self.ranks), **more}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of `to_record`."""
        return cls(dict(record["ranks"]), dict(record.get("schemes", {})), dict(record.get("read_ranks", {})))

    def scheme(self, layer: str) -> str:
        """By which scheme the layer is factorised."""
        return self.schemes.get(layer, "svd")

    def ranks_of(self, layer: str) -> Ranks:
        """The ranks of a layer: one, or of "tucker" that of what it reads and that of what it makes."""
        if self.scheme(layer) != "tucker":
            return (self.ranks[layer],)
        return self.read_ranks.get(layer, 0), self.ranks[layer]


class Rank(SiteOperator):
    """Offers for each layer a share of its break-even rank, at which its factors cost what the layer does.

    The share is of the layer as it was, since that is what its errors are known of: a narrowed layer keeps the rank.
    Where that is more than the largest share of what is left of the layer, it is that. So costs rise with widths and
    shares, and a factorised layer never costs more than the whole one. Whole stay grouped and transposed convolutions,
    tensors that several layers share, and layers that rank 1 would make dearer where they are narrowest.
    """

    name: ClassVar[str] = "rank"
    marks: ClassVar[tuple[str, ...]] = ("rank",)
    options_type = RankOptions
    step_type = RankStep

    def __init__(self, basis: Basis, options: RankOptions) -> None:
        self.basis = basis
        self._steps = options.steps
        levels = tuple(i for i in range(1, options.steps + 1) if i / options.steps >= options.min_keep - 1e-9)
        tops = _shares_at_most(options.at_most, basis.terms.tensors)
        offered = [(*(i for i in levels[:-1] if i / options.steps <= top + 1e-9), options.steps) for top in tops]
        rows = self._find_rows(options.scheme)
        self._parts = Parts.of(rows, levels[-2] / options.steps if len(levels) > 1 else 1.0)
        dearer = self._parts.is_dearer(basis.least.pieces)
        called = {str(node.target) for node in basis.recorded.network.graph.nodes if node.op == "call_module"}
        reasons = [
            _reason(basis.recorded.network, tensor, called)
            or ("costs more at rank 1 where it is narrowest" if d else None)
            or ("is offered no rank that is small enough" if len(own) == 1 < len(levels) else None)
            for tensor, d, own in zip(basis.terms.tensors, dearer, offered, strict=True)
        ]
        self.choose(reasons, options.exclude, "layers can be factorised:")
        self.knobs = tuple(self._knob(t, offered[site]) for t, site in zip(self.tensors, self.sites, strict=True))
        self._legal = np.array(levels[:-1], dtype=np.int64)
        self._tops = np.array([[0, *knob.levels][-2] for knob in self.knobs])
        self._parts = Parts.of([row if i in self.sites else WHOLE for i, row in enumerate(rows)], self._parts.top)
        self.basis = basis.changed(parts=self._parts)

    def _knob(self, tensor: WeightTensor, levels: tuple[int, ...]) -> Knob:
        labels = (*(f"{level / self._steps:.0%}" for level in levels[:-1]), "whole")
        name, unit = f"rank:{tensor.layers[0]}", "of break-even"
        return Knob(name, levels, unit, self._steps, labels=labels, operator="rank", site=tensor.name)

    def _find_rows(self, wanted: str) -> list[Row]:
        """Find by which scheme each site's layer would be factorised, and into what."""
        network, terms = self.basis.recorded.network, self.basis.terms
        self._schemes: list[str] = []
        rows = []
        for tensor, fixed in zip(terms.tensors, terms.fixed_positions.tolist(), strict=True):
            layer = layer_of(network, tensor.layers[0])
            scheme = "separable" if wanted == "auto" else wanted
            row = row_of(layer, tensor, scheme, fixed=fixed)
            self._schemes.append("svd" if row is None else scheme)
            rows.append(row or row_of(layer, tensor, "svd", fixed=fixed) or WHOLE)
        return rows

    def scheme(self, site: int) -> str:
        """By which scheme the layer of a site is factorised."""
        return self._schemes[site]

    def ranks(self, sheet: Sheet, levels: np.ndarray) -> list[Ranks | None]:
        """The ranks of each layer with a knob where layers are as `sheet` has them; None for whole: [n_knobs]."""
        both = zip(*(rank.astype(int).tolist() for rank in self._ranks(sheet, levels)), strict=True)
        chosen = zip(both, levels.tolist(), self.sites.tolist(), strict=True)
        return [self._named(site, *two) if level < self._steps else None for two, level, site in chosen]

    def _named(self, site: int, first: int, second: int) -> Ranks:
        return (first, second) if self._schemes[site] == "tucker" else (first,)

    def _ranks(self, sheet: Sheet, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First and second rank of each layer with a knob, for levels [..., n_knobs]: in their shape."""
        first, second = self._of_whole
        most = self._at(sheet, self._tops)
        return np.minimum(first[levels, self._places], most[0]), np.minimum(second[levels, self._places], most[1])

    def _at(self, sheet: Sheet, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The ranks that shares, [..., n_knobs], of the break-even ranks of what `sheet` has come to."""
        share = np.ones((*levels.shape[:-1], len(self._schemes)))
        share[..., self.sites] = levels / self._steps
        first, second = self._parts.ranks(sheet.pieces, share)
        return first[..., self.sites], second[..., self.sites]

    @cached_property
    def _of_whole(self) -> tuple[np.ndarray, np.ndarray]:
        """The ranks of layers that nothing narrows: [n_steps + 1, n_knobs] each."""
        every = np.arange(self._steps + 1)[:, None]
        return self._at(self.basis.whole, np.broadcast_to(every, (len(every), len(self.knobs))))

    @cached_property
    def _places(self) -> np.ndarray:
        return np.arange(len(self.knobs))

    def price(self, sheet: Sheet, levels: np.ndarray) -> Sheet:
        """The sheet with the pieces of each factorised layer."""
        ranks = np.zeros((2, *levels.shape[:-1], len(self._schemes)))
        ranks[..., self.sites] = np.where(levels < self._steps, self._ranks(sheet, levels), 0)
        return sheet.changed(split=self._parts.pieces(sheet.pieces, *ranks))

    def canonical(self, before: Sheet, levels: np.ndarray) -> np.ndarray:
        """The highest share that comes to the same ranks."""
        legal = np.broadcast_to(self._legal.reshape(-1, *[1] * levels.ndim), (len(self._legal), *levels.shape))
        pairs = zip(self._ranks(before, legal), self._ranks(before, levels), strict=True)
        same = np.logical_and(*(at_each == at_these for at_each, at_these in pairs))  # [n_levels, ..., n_knobs]
        found = np.where(same & (legal <= self._tops), legal, levels).max(axis=0, initial=0)
        return super().canonical(before, np.where(levels < self._steps, np.maximum(found, levels), levels))

    def step(self, sheet: Sheet, levels: np.ndarray, scores: Scores | None) -> RankStep:
        """Name rank and scheme of each layer that is left and does not stay whole."""
        active = self.active(sheet, levels) & (levels < self._steps)
        made = sheet.pieces.made[self.sites].astype(int).tolist()
        found = {
            tensor.layers[0]: (self._schemes[site], widths)
            for tensor, site, widths, there in zip(self.tensors, self.sites.tolist(), made, active, strict=True)
            if there
        }
        return RankStep(
            {layer: widths[1 if scheme == "tucker" else 0] for layer, (scheme, widths) in found.items()},
            {layer: scheme for layer, (scheme, _) in found.items() if scheme != "svd"},
            {layer: widths[0] for layer, (scheme, widths) in found.items() if scheme == "tucker"},
        )

    @staticmethod
    def rebuild(network: fx.GraphModule, step: RankStep, split: Split | None = None) -> fx.GraphModule:
        """Put layers in a row in the place of each. `split`: their weights, by default those of `plain_split`."""
        split, known = split or plain_split, {name for name, _ in network.named_modules()}
        for name in step.ranks:
            if name not in known:
                raise SpaceError(f"the plan names layer {name!r}, which this network does not have")
            layer, scheme, ranks = layer_of(network, name), step.scheme(name), step.ranks_of(name)
            if scheme not in SCHEMES or not fits(layer, scheme):
                raise SpaceError(f"the plan factorises layer {name!r} by {scheme!r}, which it cannot be")
            for rank, highest in zip(ranks, most(layer, scheme), strict=True):
                if not 1 <= rank <= highest:
                    raise SpaceError(f"the plan gives layer {name!r} rank {rank}, expected 1 to {highest}")
            weights, bias = split(name, layer, ranks, scheme)
            network.set_submodule(name, in_a_row(layer, scheme, weights, bias))
            call_all(network.graph, name, scheme)
        network.recompile()
        return network


def _shares_at_most(at_most: Mapping[str, float], tensors: Sequence[WeightTensor]) -> list[float]:
    """The largest share that each tensor's layer may be offered, the least of those that name it: [n_tensors]."""
    require_matches("at_most", list(at_most), tensors)
    return [min((s for name, s in at_most.items() if matches(t, [name])), default=1.0) for t in tensors]


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
