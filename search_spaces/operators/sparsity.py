"""Sparsity: for every convolution and linear layer, how many of its weights are not zero.

The fine-grained protocol of AMC (He et al. 2018, section 4): a sparsity for each layer, for a budget on the model's
size. A network with zeros computes as much as before and is as fast as before, unless a processor knows what to do with
their pattern; its packed file is smaller.
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
from search_spaces.graph.tensors import Layer, WeightTensor, channels, state_of
from search_spaces.operators.base import Basis, Scores
from search_spaces.operators.options import SparsityOptions
from search_spaces.operators.patterns import Pattern, pattern_of
from search_spaces.operators.ranking import columns, matrix_of, rank_weights
from search_spaces.operators.sites import SiteOperator, is_depthwise, layer_of, piece_names
from search_spaces.operators.step import Step
from search_spaces.pricing.sheet import Sheet
from search_spaces.types import Knob

Rank = Callable[[str, Layer, tuple[float, ...]], Tensor]
"""The name of a tensor, its layer, the scale of each of its inputs, () for none -> the position of each weight in the
order in which they stay within the step's pattern, 0 for the last to go: int32, in the shape of the weight."""

_WHAT = "weights of convolutions or linear layers"
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
    pattern: str = "unstructured"
    """Where those that remain may lie, as in `SparsityOptions`."""

    def to_record(self) -> dict[str, Any]:
        """The step as plain data."""
        scales = {name: list(scale) for name, scale in self.scales.items()}
        pattern = {} if self.pattern == SparsityStep.pattern else {"pattern": self.pattern}
        return {"counts": dict(self.counts), **({"scales": scales} if scales else {}), **pattern}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of `to_record`."""
        scales = {name: tuple(scale) for name, scale in record.get("scales", {}).items()}
        return cls(dict(record["counts"]), scales, str(record.get("pattern", cls.pattern)))


class Sparsity(SiteOperator):
    """Offers for each weight tensor of a convolution or linear layer how many weights remain.

    Whole stay: the weights of depthwise convolutions (few, and each filter is all that its channel has), tensors of
    fewer than `MIN_WEIGHTS` weights, those that the pattern does not fill, and parameters of other layers (biases,
    norms, embeddings).

    A level is a number of the whole tensor's weights. Of a tensor that is narrowed or factorised the same fraction
    remains, rounded down to what the pattern has; what then does not fill the pattern keeps its share too.
    """

    name: ClassVar[str] = "sparsity"
    marks: ClassVar[tuple[str, ...]] = ("sparsity",)
    options_type = SparsityOptions
    step_type = SparsityStep

    def __init__(self, basis: Basis, options: SparsityOptions) -> None:
        self.basis = replace(basis, storage=replace(basis.storage, masked=True))
        self.pattern = pattern_of(options.pattern)
        self._pattern_name = options.pattern
        network = basis.recorded.network
        self.choose([self._reason(tensor) for tensor in basis.terms.tensors], options.exclude, _WHAT)
        self.knobs = tuple(_knob(tensor, self.pattern.levels(tensor.size, options.min_keep)) for tensor in self.tensors)
        sizes = np.array([tensor.size for tensor in self.tensors], dtype=float)
        self._sizes = sizes[:, None]  # [n_knobs, 1]
        # Zeros of the original are the first to go, as long as nothing before this operator makes them others.
        whole = [tensor.size for tensor in basis.terms.tensors]
        self._most, self._zeros, self._within = np.array(whole, dtype=float), 0.0, self._sizes
        if basis.storage.untouched:
            state, ours = state_of(network), set(basis.terms.names)
            self._most = np.array([int(stored(state[name]).sum()) for name in basis.terms.names], dtype=float)
            others = [p for name, p in network.named_parameters() if name not in ours]
            self._zeros = float(sum(p.numel() - int(stored(p).sum()) for p in others))
            if self.pattern.grouped:
                within = [_most_in_groups(state[tensor.name], self.pattern) for tensor in self.tensors]
                self._within = np.array(within, dtype=float)[:, None]

    def _reason(self, tensor: WeightTensor) -> str | None:
        """Why a tensor stays whole; None if it need not."""
        layer = layer_of(self.network, tensor.layers[0])
        if is_depthwise(self.network, tensor):
            return "is depthwise: each channel has this one small filter"
        if tensor.size < MIN_WEIGHTS:
            return f"has fewer than {MIN_WEIGHTS} weights"
        if self.pattern.free:
            return None
        matrix = matrix_of(layer)
        if matrix is None:
            return f"is a transposed convolution, for which there is no pattern {self._pattern_name}"
        if not self.pattern.fills(*matrix):
            return f"has {matrix[0]} rows of {matrix[1]} weights, which {self._pattern_name} does not fill"
        if self.basis.storage.untouched and not _zeros_fill_blocks(layer.weight, self.pattern):
            return f"has zeros that do not fill blocks of {self._pattern_name}"
        return None

    def title(self) -> str:
        """How many tensors can lose weights."""
        single = "single weights can go" if self.pattern.free else f"weights can go in the pattern {self._pattern_name}"
        return f"{len(self.tensors)} tensors of which {single}"

    def price(self, sheet: Sheet, levels: np.ndarray) -> Sheet:
        """The sheet with this fraction of each tensor's weights."""
        numbers = sheet.pieces.weights.copy()
        share = levels[..., None] / self._sizes
        counts = self.pattern.counts(share, numbers[..., self.sites, :])
        numbers[..., self.sites, :] = np.where(share < 1, np.minimum(counts, self._within), counts)
        return sheet.changed(numbers=np.minimum(numbers, self._most[:, None]), zeros=self._zeros)

    def step(self, sheet: Sheet, levels: np.ndarray, scores: Scores | None) -> SparsityStep:
        """Keep so many weights: by default those with the largest |weight| * scale of its input channel.

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
            for name, n in zip(names, self.pattern.counts(np.array(share), weights).tolist(), strict=False):
                counts[name] = level if whole else int(n)
            if whole and scores is not None and tensor.name in scores:
                scales[tensor.name] = tuple(float(x) for x in scores[tensor.name])
        return SparsityStep(counts, scales, self._pattern_name) if counts else SparsityStep()

    @staticmethod
    def rebuild(network: fx.GraphModule, step: SparsityStep, rank: Rank | None = None) -> fx.GraphModule:
        """Set the weights that go to 0. `rank`: their order, by default that of |weight| times the step's scale."""
        _require_fits(network, step)
        pattern = pattern_of(step.pattern)
        rank = rank or (lambda name, layer, scale: rank_weights(layer, scale, pattern))
        with torch.no_grad():
            for name, count in step.counts.items():
                if count == network.get_parameter(name).numel():
                    continue
                order = rank(name, layer_of(network, name.rpartition(".")[0]), step.scales.get(name, ()))
                network.get_parameter(name).masked_fill_(order >= count, 0)
        return network

    def in_channels(self, name: str) -> int:
        """How many channels the layer of a tensor reads, over all groups."""
        return channels(self.layer(name))[0]


def _require_fits(network: nn.Module, step: SparsityStep) -> None:
    parameters, pattern = dict(network.named_parameters()), pattern_of(step.pattern)
    for name in (*step.counts, *step.scales):
        if name not in parameters:
            raise SpaceError(f"the plan names tensor {name!r}, which this space does not have")
    for name, count in step.counts.items():
        size = parameters[name].numel()
        if not 0 <= count <= size:
            raise SpaceError(f"the plan keeps {count} weights of {name!r}, expected some of its {size}")
        share = size * pattern.most // pattern.of
        if count < size and (count % pattern.unit or (pattern.grouped and count != share)):
            raise SpaceError(f"the plan keeps {count} weights of {name!r}, which the pattern {step.pattern} has not")
    for name, scale in step.scales.items():
        inputs = channels(layer_of(network, name.rpartition(".")[0]))[0]
        if len(scale) != inputs or not all(math.isfinite(x) and x >= 0 for x in scale):
            raise SpaceError(f"the plan scales {name!r} by {len(scale)} numbers, expected {inputs} of 0 or more")


def _knob(tensor: WeightTensor, levels: tuple[int, ...]) -> Knob:
    return Knob(tensor.name, levels, unit="weights", operator="sparsity", site=tensor.name)


def _most_in_groups(weight: Tensor, pattern: Pattern) -> int:
    """How many weights that are not zero the groups of N:M can keep."""
    there = stored(weight).view(len(weight), -1)[:, columns(weight)]  # [out, features]
    return int(there.view(len(weight), -1, pattern.of).sum(2).clamp_max(pattern.most).sum())


def _zeros_fill_blocks(weight: Tensor, pattern: Pattern) -> bool:
    """Whether each block has no zeros, or nothing else."""
    there = stored(weight).view(len(weight), -1)[:, columns(weight)]
    blocks = there.view(len(weight) // pattern.rows, pattern.rows, -1, pattern.columns).transpose(1, 2).flatten(2)
    return torch.equal(blocks.any(2), blocks.all(2))
