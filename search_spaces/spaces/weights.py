"""The space of single weights: for every convolution and linear layer, how many of its weights are not zero.

The fine-grained protocol of AMC (He et al. 2018, section 4): a sparsity for each layer, for a budget on the model's
size. A network with zeros computes as much as before and is as fast as before; only its packed file is smaller.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.modules.conv import _ConvNd

from search_spaces.codecs.bitmask import frame_bytes, packed_sizes, stored
from search_spaces.errors import SpaceError
from search_spaces.graph.tensors import Layer, WeightTensor, along_inputs, channels, find_tensors, state_of
from search_spaces.graph.trace import trace
from search_spaces.spaces.wall import CostedSpace
from search_spaces.types import Knob, Plan, Point

STEPS = 64
"""Levels of a knob, evenly spaced from the fewest weights to all. With half as many, one step of the largest tensor of
a small network was 5 % of its budget, and what was meant to be uniform was not: 89 % accuracy instead of 77."""
MIN_WEIGHTS = 256
"""A smaller tensor stays whole: less than 1 KB could be saved, of which the header of the file takes a part."""


@dataclass(frozen=True)
class Whole:
    """A tensor that stays as it is, and why."""

    name: str
    weights: int
    reason: str


class WeightSpace(CostedSpace):
    """Per weight tensor of a convolution or linear layer, how many weights remain, on any network that can be recorded.

    Whole stay: the weights of depthwise convolutions (few, and each filter is all that its channel has), tensors of
    fewer than `MIN_WEIGHTS` weights, and parameters of other layers (biases, norms, embeddings).

    Its costs are `params`, the parameters that are not zero, and `size_bytes`, an upper bound of the packed file.
    Raises `TraceError` if the model cannot be recorded, `SpaceError` for a bad option or if no tensor can change.

    Args:
        model: the network; it is copied, and never changed.
        example_inputs: positional arguments on which its forward runs, batch first.
        min_keep: the smallest fraction of a tensor's weights that may remain, in (0, 1].
        exclude: names of layers or tensors to leave as they are; `*` and `?` match as in file names.
    """

    metrics = ("params", "size_bytes")
    feature_names = ("index", "out_channels", "in_channels", "height", "width", "stride", "kernel", "macs")

    def __init__(
        self, model: nn.Module, example_inputs: Sequence[Any], *, min_keep: float = 0.1, exclude: Sequence[str] = ()
    ) -> None:
        if not 0 < min_keep <= 1:
            raise SpaceError(f"min_keep is a fraction in (0, 1], got {min_keep}")
        self.original: fx.GraphModule = trace(model, example_inputs)
        self._arguments = (tuple(example_inputs), {"min_keep": min_keep, "exclude": exclude})
        found = find_tensors(self.original)
        _require_matches(exclude, found)
        reasons = {tensor.name: self._reason(tensor, exclude) for tensor in found}
        self.tensors: tuple[WeightTensor, ...] = tuple(tensor for tensor in found if reasons[tensor.name] is None)
        self.whole: tuple[Whole, ...] = tuple(
            Whole(tensor.name, tensor.size, reason) for tensor in found if (reason := reasons[tensor.name]) is not None
        )
        if not self.tensors:
            told = "; ".join(f"{item.name}: {item.reason}" for item in self.whole[:3]) or "it has no such layer"
            raise SpaceError(
                f"no weights of convolutions or linear layers can go, so there is nothing to search ({told})"
            )
        self.knobs: tuple[Knob, ...] = tuple(_knob(tensor, min_keep) for tensor in self.tensors)
        self._ranks: dict[str, tuple[tuple[float, ...], Tensor]] = {}
        self._set_costs()

    def __reduce__(self) -> tuple[Any, ...]:
        return _remake, (self.original, *self._arguments)

    def _reason(self, tensor: WeightTensor, exclude: Sequence[str]) -> str | None:
        """Why a tensor stays whole, or None."""
        layers = [self.original.get_submodule(name) for name in tensor.layers]
        if any(isinstance(x, _ConvNd) and x.groups == x.in_channels > 1 for x in layers):
            return "is depthwise: each channel has this one small filter"
        if tensor.size < MIN_WEIGHTS:
            return f"has fewer than {MIN_WEIGHTS} weights"
        return "is excluded by the study" if _matches(tensor, exclude) else None

    def _set_costs(self) -> None:
        tensors = state_of(self.original)
        parameters = {id(parameter) for parameter in self.original.parameters()}
        numbers = {name: int(stored(tensor).sum()) for name, tensor in tensors.items()}
        sizes = packed_sizes(tensors)
        knobs = {tensor.name for tensor in self.tensors}
        others = [name for name in tensors if name not in knobs]
        fixed = [sizes[name].least(numbers[name]) for name in others]
        self._fixed = {
            "params": sum(numbers[name] for name in others if id(tensors[name]) in parameters),
            "size_bytes": sum(fixed) + frame_bytes(),
        }
        ours = [sizes[tensor.name] for tensor in self.tensors]
        self._stored = np.array([numbers[tensor.name] for tensor in self.tensors])  # [n_knobs]
        self._dense = np.array([size.dense for size in ours])  # [n_knobs]
        self._empty = np.array([size.packed_empty for size in ours])  # [n_knobs]
        self._itemsize = np.array([size.itemsize for size in ours])  # [n_knobs]

    def cost_of_levels(self, levels: np.ndarray, metric: str) -> float:
        """The cost of the network with `levels` weights kept in each tensor: [n_knobs]."""
        numbers = np.minimum(levels, self._stored)  # zeros of the original are the first to go
        if metric == "params":
            return float(self._fixed[metric] + numbers.sum())
        return float(self._fixed[metric] + np.minimum(self._dense, self._empty + numbers * self._itemsize).sum())

    def plan(self, point: Point, scales: Mapping[str, np.ndarray] | None = None) -> Plan:
        """How many weights of each tensor remain: those with the largest |weight| * scale of its input channel.

        Args:
            point: a legal Point of this space.
            scales: tensor -> scale of each of its input channels, [in channels]; by default 1, plain magnitude.
        """
        self.point(self.levels(point).tolist())  # illegal levels are refused
        plain = {name: tuple(float(x) for x in scale) for name, scale in (scales or {}).items()}
        return Plan(weights={tensor.name: point[tensor.name] for tensor in self.tensors}, scales=plain)

    def build(self, plan: Plan) -> fx.GraphModule:
        """A new network with the original's shapes and names, in which the weights that go are 0."""
        self._require_fits(plan)
        network = copy.deepcopy(self.original)
        with torch.no_grad():
            for name, count in plan.weights.items():
                weight = network.get_parameter(name)
                weight.masked_fill_(self.rank(name, plan.scales.get(name, ())) >= count, 0)
        return network

    def rank(self, name: str, scale: tuple[float, ...] = ()) -> Tensor:
        """The position of each weight in the order of their scores, 0 the last to go; in the shape of the tensor."""
        known = self._ranks.get(name)
        if known is None or known[0] != scale:
            weight = self.original.get_parameter(name).detach()
            scores = weight.double().abs()
            if scale:
                scores = scores * along_inputs(self.layer(name), torch.tensor(scale, dtype=torch.float64))
            order = torch.sort(scores.reshape(-1), descending=True, stable=True).indices
            rank = torch.empty(len(order), dtype=torch.int32)
            rank[order] = torch.arange(len(order), dtype=torch.int32)
            known = self._ranks[name] = (scale, rank.view(weight.shape))
        return known[1]

    def in_channels(self, name: str) -> int:
        """How many channels the layer of a tensor reads, over all groups."""
        return channels(self.layer(name))[0]

    def layer(self, name: str) -> Layer:
        """The first layer that uses a tensor."""
        layer = self.original.get_submodule(next(tensor.layers[0] for tensor in self.tensors if tensor.name == name))
        assert isinstance(layer, (_ConvNd, nn.Linear))
        return layer

    def _require_fits(self, plan: Plan) -> None:
        if plan.kept:
            name = next(iter(plan.kept))
            raise SpaceError(f"the plan names a group of channels, {name!r}, which a space of weights does not have")
        sizes = {tensor.name: tensor.size for tensor in self.tensors}
        for name in (*plan.weights, *plan.scales):
            if name not in sizes:
                raise SpaceError(f"the plan names tensor {name!r}, which this space does not have")
        for name, count in plan.weights.items():
            if not 1 <= count <= sizes[name]:
                raise SpaceError(f"the plan keeps {count} weights of {name!r}, expected some of its {sizes[name]}")
        for name, scale in plan.scales.items():
            if len(scale) != self.in_channels(name) or not all(math.isfinite(x) and x >= 0 for x in scale):
                raise SpaceError(
                    f"the plan scales {name!r} by {len(scale)} numbers, expected {self.in_channels(name)} of 0 or more"
                )

    def features(self) -> np.ndarray:
        """What is known of each tensor's first layer, each column scaled to [0, 1]: [n_knobs, 8].

        The static part of the AMC state (He et al. 2018, section 3.1): t, n, c, h, w, stride, k, FLOPs[t].
        """
        rows = []
        for t, tensor in enumerate(self.tensors):
            layer = self.layer(tensor.name)
            stride, kernel = (layer.stride[-1], layer.kernel_size[-1]) if isinstance(layer, _ConvNd) else (1, 1)
            inputs, outputs = channels(layer)
            rows.append((t, outputs, inputs, tensor.height, tensor.width, stride, kernel, tensor.macs))
        table = np.array(rows, dtype=float)
        span = table.max(axis=0) - table.min(axis=0)
        return (table - table.min(axis=0)) / np.where(span > 0, span, 1.0)


def _remake(model: nn.Module, example_inputs: Sequence[Any], options: dict[str, Any]) -> WeightSpace:
    return WeightSpace(model, example_inputs, **options)


def _knob(tensor: WeightTensor, min_keep: float) -> Knob:
    lowest = max(1, math.ceil(min_keep * tensor.size - 1e-9))
    levels = np.unique(np.linspace(lowest, tensor.size, STEPS).round().astype(int))
    return Knob(tensor.name, tuple(levels.tolist()), unit="weights")


def _matches(tensor: WeightTensor, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for name in (tensor.name, *tensor.layers) for pattern in patterns)


def _require_matches(patterns: Sequence[str], tensors: Sequence[WeightTensor]) -> None:
    for pattern in patterns:
        if not any(_matches(tensor, [pattern]) for tensor in tensors):
            names = ", ".join(tensor.layers[0] for tensor in tensors[:5])
            raise SpaceError(
                f"exclude pattern {pattern!r} matches no convolution or linear layer; there are {names}, ..."
            )
