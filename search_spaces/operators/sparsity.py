"""Sparsity: for every convolution and linear layer, how many of its weights are not zero.

The fine-grained protocol of AMC (He et al. 2018, section 4): a sparsity for each layer, for a budget on the model's
size. A network with zeros computes as much as before and is as fast as before; only its packed file is smaller.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, fx, nn

from search_spaces.codecs.bitmask import stored
from search_spaces.errors import SpaceError
from search_spaces.graph.tensors import Layer, along_inputs, channels, state_of
from search_spaces.operators.base import Basis, Scores
from search_spaces.operators.options import SparsityOptions
from search_spaces.operators.sites import SiteOperator, is_depthwise, layer_of, piece_names
from search_spaces.operators.step import Step
from search_spaces.pricing.sheet import Sheet
from search_spaces.types import Knob

Rank = Callable[[str, Layer, tuple[float, ...]], Tensor]
"""The name of a tensor, its layer, the scale of each of its inputs, () for none -> the position of each weight in the
order in which they stay, 0 for the last to go: int32, in the shape of the weight."""

STEPS = 64
"""Levels of a knob, evenly spaced from the fewest weights to all. With half as many, one step of the largest tensor of
a small network was 5 % of its budget, and what was meant to be uniform was not: 89 % accuracy instead of 77."""
MIN_WEIGHTS = 256
"""A smaller tensor stays whole: less than 1 KB could be saved, of which the header of the file takes a part."""


@dataclass(frozen=True)
class SparsityStep(Step):
    """How many weights of which tensors remain."""

    operator: ClassVar[str] = "sparsity"
    packed: ClassVar[bool] = True

    counts: Mapping[str, int] = field(default_factory=dict)
    """Tensor name -> how many of its weights remain: those of the largest score |weight| * scale, of several alike the
    first. A tensor not named is kept whole."""
    scales: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Tensor name -> the scale of each of its input channels in that score; 1 for a tensor not named."""

    def to_record(self) -> dict[str, Any]:
        """The step as plain data."""
        scales = {name: list(scale) for name, scale in self.scales.items()}
        return {"counts": dict(self.counts), **({"scales": scales} if scales else {})}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of `to_record`."""
        scales = {name: tuple(scale) for name, scale in record.get("scales", {}).items()}
        return cls(dict(record["counts"]), scales)


class Sparsity(SiteOperator):
    """Offers for each weight tensor of a convolution or linear layer how many weights remain.

    Whole stay: the weights of depthwise convolutions (few, and each filter is all that its channel has), tensors of
    fewer than `MIN_WEIGHTS` weights, and parameters of other layers (biases, norms, embeddings).

    A level is a number of the whole tensor's weights. Of a tensor that is narrowed or factorised the same fraction
    remains, rounded down.
    """

    name: ClassVar[str] = "sparsity"
    marks: ClassVar[tuple[str, ...]] = ("sparsity",)
    options_type = SparsityOptions
    step_type = SparsityStep

    def __init__(self, basis: Basis, options: SparsityOptions) -> None:
        self.basis = replace(basis, storage=replace(basis.storage, masked=True))
        network = basis.recorded.network
        reasons: list[str | None] = []
        for tensor in basis.terms.tensors:
            small = f"has fewer than {MIN_WEIGHTS} weights" if tensor.size < MIN_WEIGHTS else None
            depthwise = "is depthwise: each channel has this one small filter"
            reasons.append(depthwise if is_depthwise(network, tensor) else small)
        self.choose(reasons, options.exclude, "weights of convolutions or linear layers")
        self.knobs = tuple(_knob(tensor.name, tensor.size, options.min_keep) for tensor in self.tensors)
        sizes = np.array([tensor.size for tensor in self.tensors], dtype=float)
        self._sizes = sizes[:, None]  # [n_knobs, 1]
        # Zeros of the original are the first to go, as long as nothing before this operator makes them others.
        whole = [tensor.size for tensor in basis.terms.tensors]
        self._most, self._zeros = np.array(whole, dtype=float), 0.0
        if basis.storage.untouched:
            state, ours = state_of(network), set(basis.terms.names)
            self._most = np.array([int(stored(state[name]).sum()) for name in basis.terms.names], dtype=float)
            others = [p for name, p in network.named_parameters() if name not in ours]
            self._zeros = float(sum(p.numel() - int(stored(p).sum()) for p in others))

    @property
    def fitted(self) -> bool:
        """The weights of a network that operators before have changed are scored by its own inputs."""
        return not self.basis.storage.untouched

    def title(self) -> str:
        """How many tensors can lose weights."""
        return f"{len(self.tensors)} tensors of which single weights can go"

    def price(self, sheet: Sheet, levels: np.ndarray) -> Sheet:
        """The sheet with this fraction of each tensor's weights."""
        numbers = sheet.pieces.weights.copy()
        share = levels[:, None] / self._sizes
        numbers[self.sites] = np.floor(share * numbers[self.sites] + 1e-9)
        return sheet.changed(numbers=np.minimum(numbers, self._most[:, None]), zeros=self._zeros)

    def step(self, sheet: Sheet, levels: np.ndarray, scores: Scores | None) -> SparsityStep:
        """Keep so many weights: those with the largest |weight| * scale of its input channel.

        `scores`: tensor -> scale of each of its input channels, [in channels]; by default 1, plain magnitude. They are
        part of the step where the tensor is whole; else what is left of it is scored when it is there.
        """
        counts: dict[str, int] = {}
        scales: dict[str, tuple[float, ...]] = {}
        for tensor, knob, site, level in zip(self.tensors, self.knobs, self.sites, levels.tolist(), strict=True):
            if sheet.presence is not None and not sheet.presence.has_site[site]:
                continue
            weights = sheet.pieces.weights[site]
            names = piece_names(tensor, sheet.pieces, int(site))
            whole = int(weights.sum()) == tensor.size and len(names) == 1
            share = level / knob.size
            for name, n in zip(names, weights.tolist(), strict=False):
                counts[name] = level if whole else math.floor(share * n + 1e-9)
            if whole and scores is not None and tensor.name in scores:
                scales[tensor.name] = tuple(float(x) for x in scores[tensor.name])
        return SparsityStep(counts, scales)

    @staticmethod
    def rebuild(network: fx.GraphModule, step: SparsityStep, rank: Rank | None = None) -> fx.GraphModule:
        """Set the weights that go to 0. `rank`: their order, by default that of |weight| times the step's scale."""
        _require_fits(network, step)
        rank = rank or (lambda name, layer, scale: rank_weights(layer, scale))
        with torch.no_grad():
            for name, count in step.counts.items():
                order = rank(name, layer_of(network, name.rpartition(".")[0]), step.scales.get(name, ()))
                network.get_parameter(name).masked_fill_(order >= count, 0)
        return network

    def in_channels(self, name: str) -> int:
        """How many channels the layer of a tensor reads, over all groups."""
        return channels(self.layer(name))[0]


def rank_weights(layer: Layer, scale: tuple[float, ...] = ()) -> Tensor:
    """Rank a layer's weights by |weight| * scale of the input channel: 0 for the last to go; int32, as the weight."""
    scores = layer.weight.detach().double().abs()
    return ranked(scores * along_inputs(layer, torch.tensor(scale, dtype=torch.float64)) if scale else scores)


def ranked(scores: Tensor) -> Tensor:
    """The position of each of `scores` in descending order, of several alike the first before the others: int32."""
    order = torch.sort(scores.reshape(-1), descending=True, stable=True).indices
    rank = torch.empty(len(order), dtype=torch.int32)
    rank[order] = torch.arange(len(order), dtype=torch.int32)
    return rank.view(scores.shape)


def _require_fits(network: nn.Module, step: SparsityStep) -> None:
    parameters = dict(network.named_parameters())
    for name in (*step.counts, *step.scales):
        if name not in parameters:
            raise SpaceError(f"the plan names tensor {name!r}, which this space does not have")
    for name, count in step.counts.items():
        size = parameters[name].numel()
        if not 0 <= count <= size:
            raise SpaceError(f"the plan keeps {count} weights of {name!r}, expected some of its {size}")
    for name, scale in step.scales.items():
        inputs = channels(layer_of(network, name.rpartition(".")[0]))[0]
        if len(scale) != inputs or not all(math.isfinite(x) and x >= 0 for x in scale):
            raise SpaceError(f"the plan scales {name!r} by {len(scale)} numbers, expected {inputs} of 0 or more")


def _knob(name: str, size: int, min_keep: float) -> Knob:
    lowest = max(1, math.ceil(min_keep * size - 1e-9))
    levels = np.unique(np.linspace(lowest, size, STEPS).round().astype(int))
    return Knob(name, tuple(levels.tolist()), unit="weights", operator="sparsity", site=name)
