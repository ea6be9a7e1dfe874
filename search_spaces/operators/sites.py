"""What operators share that decide about the weights of one convolution or linear layer: a site."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch

import numpy as np
from torch import fx, nn
from torch.nn.modules.conv import _ConvNd

from search_spaces.errors import SpaceError
from search_spaces.graph.tensors import Layer, WeightTensor, channels
from search_spaces.operators.base import Listing, Operator, first_few
from search_spaces.pricing.sheet import Pieces, Sheet


@dataclass(frozen=True)
class Whole:
    """A tensor that stays as it is, and why."""

    name: str
    weights: int
    reason: str


class SiteOperator(Operator):
    """An operator with one knob for each of some sites."""

    tensors: tuple[WeightTensor, ...]
    """Those that may change, a knob each."""
    sites: np.ndarray
    """The row of each in a price sheet: [n_knobs]."""
    whole: tuple[Whole, ...]
    """Those that stay as they are, and why."""

    def choose(self, reasons: Sequence[str | None], exclude: Sequence[str], what: str) -> None:
        """Take the sites that have no reason to stay whole. `what` could change, for the error where nothing can.

        `reasons`: for each site of the price sheet; those of `exclude`, by the name of tensor or layer, stay too.
        """
        found = self.basis.terms.tensors
        require_matches("exclude", exclude, found)
        excluded = [matches(tensor, exclude) for tensor in found]
        told = [
            reason or ("is excluded by the study" if out else None)
            for reason, out in zip(reasons, excluded, strict=True)
        ]
        self.sites = np.array([site for site, reason in enumerate(told) if reason is None], dtype=np.int64)
        self.tensors = tuple(found[site] for site in self.sites)
        self.whole = tuple(
            Whole(tensor.name, tensor.size, reason)
            for tensor, reason in zip(found, told, strict=True)
            if reason is not None
        )
        if not self.tensors:
            text = "; ".join(f"{item.name}: {item.reason}" for item in self.whole[:3]) or "it has no such layer"
            raise SpaceError(f"no {what} can go, so there is nothing to search ({text})")

    def layer(self, name: str) -> Layer:
        """The first layer that uses a tensor, in the original network."""
        layer_name = next(tensor.layers[0] for tensor in self.tensors if tensor.name == name)
        return layer_of(self.network, layer_name)

    def active(self, sheet: Sheet, levels: np.ndarray) -> np.ndarray:
        """A knob makes a difference where its layer is left."""
        if sheet.presence is None:
            return np.ones(len(self.knobs), dtype=bool)
        present: np.ndarray = sheet.presence.has_site[..., self.sites]
        return present

    def inventory(self) -> tuple[Listing, ...]:
        """The tensors, and those that stay whole."""
        rows = [
            (t.name, f"{t.size:,}", knob.shown(knob.levels[0]), "x".join(map(str, t.shape)), first_few(t.layers))
            for t, knob in zip(self.tensors, self.knobs, strict=True)
        ]
        whole = [(item.name, f"{item.weights:,}", item.reason) for item in self.whole]
        none = "" if whole else "no tensor has to stay whole"
        return (
            Listing(self.title(), ("tensor", "weights", "fewest", "shape", "layers"), tuple(rows), (0, 4)),
            Listing(none, ("stays whole", "weights", "reason"), tuple(whole), (0, 2)),
        )

    def title(self) -> str:
        """What can be done to how many tensors, in words."""
        return f"{len(self.tensors)} tensors that {self.name} can change"

    def described(self) -> np.ndarray:
        """Of each tensor's first layer."""
        rows = []
        for tensor in self.tensors:
            layer = self.layer(tensor.name)
            stride, kernel = (layer.stride[-1], layer.kernel_size[-1]) if isinstance(layer, _ConvNd) else (1, 1)
            inputs, outputs = channels(layer)
            rows.append((outputs, inputs, tensor.height, tensor.width, stride, kernel, tensor.macs))
        table = np.array(rows, dtype=float)
        table[:, 6] /= max(table[:, 6].sum(), 1.0)
        return table


def layer_of(network: nn.Module, name: str) -> Layer:
    """The convolution or linear layer of this name."""
    layer = network.get_submodule(name)
    assert isinstance(layer, (_ConvNd, nn.Linear))
    return layer


def piece_names(tensor: WeightTensor, pieces: Pieces, site: int) -> tuple[str, ...]:
    """The names of the tensors that a site consists of, in the network that `pieces` price."""
    count = int((pieces.made[site] > 0).sum())
    layer = tensor.name.rpartition(".")[0]
    return (tensor.name,) if count < 2 else tuple(f"{layer}.{i}.weight" for i in range(count))


def is_depthwise(network: fx.GraphModule, tensor: WeightTensor) -> bool:
    """Whether a layer of the tensor has one small filter for each channel."""
    layers = [network.get_submodule(name) for name in tensor.layers]
    return any(isinstance(x, _ConvNd) and x.groups == x.in_channels > 1 for x in layers)


def matches(tensor: WeightTensor, patterns: Sequence[str]) -> bool:
    """Whether the tensor or a layer of it has a name that one of the patterns means."""
    return any(fnmatch(name, pattern) for name in (tensor.name, *tensor.layers) for pattern in patterns)


def require_matches(option: str, patterns: Sequence[str], tensors: Sequence[WeightTensor]) -> None:
    """Raise `SpaceError` unless each of the patterns of an option means a layer."""
    for pattern in patterns:
        if not any(matches(tensor, [pattern]) for tensor in tensors):
            names = ", ".join(tensor.layers[0] for tensor in tensors[:5])
            raise SpaceError(
                f"{option} pattern {pattern!r} matches no convolution or linear layer; there are {names}, ..."
            )
