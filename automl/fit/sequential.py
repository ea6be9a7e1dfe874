"""Sequential least squares: layer after layer is fitted on what the network pruned so far feeds it.

Fits from the original's inputs (`Reconstruction`) leave every layer unaware of the errors before it. Here a layer sees
the inputs it will really get, and its target is what the *original* network has at the same place, so that it also
corrects what earlier layers got wrong (as in He et al. 2017, "Channel pruning", section 3.3 on whole models). Where the
output is added to a shortcut, the target is the original's sum less the shortcut of the network pruned so far, so
that a block makes up for the errors of the blocks before it.

The network may have lost layers and gained skips (`search_spaces.spaces.depth`). What a layer is to make stays what the
original makes at the same place: less what the shortcut is now, with its skips; and the whole sum, where what else was
added is gone. So blocks after a removed one, and a projection that remains of one, make up for it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from automl.fit.gram import MAX_FEATURES, input_rows, output_rows, positions
from automl.fit.reconstruction import solve
from automl.fit.samples import affordable
from automl.tasks.batches import Batch
from automl.util.modes import evaluating
from search_spaces import LayerSlice
from search_spaces.graph.lone_norms import lone_norms
from search_spaces.graph.wiring import SKIP


@dataclass(frozen=True)
class Effort:
    """How much calibration data a fit looks at."""

    samples: int | None
    """Of the calibration samples; None: all."""
    rows: int
    """Rows of each layer's fit."""
    rows_a_feature: int
    """Or so many for each input feature of the layer, if that is more."""


QUICK = Effort(256, 4_000, 12)
"""For trials: a fifth of the time of a thorough fit, and nearly its order of networks (experiments/agents)."""

THOROUGH = Effort(None, 20_000, 32)
"""For the networks that are reported."""

SEQUENTIAL_RIDGE = 1e-2
"""Weight of the ridge penalty for as many rows as features, relative to the mean variance of a feature."""

TARGET_BYTES = 2**30
"""The rows of all layers' targets together; of a network that needs more each layer has fewer rows."""

CHUNK = 32
"""Samples that share their positions; the next chunk has others."""

_ADDITIONS = (torch.add, operator.add, operator.iadd, "add", "add_")


@dataclass(frozen=True)
class Site:
    """Where the output of a layer is compared with the original network's."""

    layer: str
    norm: str | None
    """The batch norm that alone consumes the layer, if there is one: it is fitted together with the layer."""
    end: str
    """The node of the norm, or else of the layer."""
    total: str
    """The node of the sum that goes into, if it does, or else its `end`."""
    target: str
    """Which of the two the layer is to reproduce: the total, if what else is added is known when the layer runs."""


@dataclass(frozen=True)
class Rows:
    """Of the rows that the original gave a layer's fit, those that the network pruned so far still gives it."""

    drawn: tuple[Tensor, ...]
    """For each chunk of samples, the output positions, counted in what is left."""
    places: Tensor | None
    """Their places among the original's rows; None: all of them, in order."""


class SequentialReconstruction:
    """Refits every layer of a rebuilt network, in the order of its graph, on the calibration data.

    Convolutions that are not grouped and linear layers are fitted, those that lost no input too, as their inputs
    have changed all the same; weights, bias and the batch norm after the layer are replaced. The norm's statistics
    are those of its new inputs, so that training can go on from there. Layers called more than once, those with more
    than `MAX_FEATURES` inputs, and those for which channels are part of the batch keep their sliced weights.
    """

    def __init__(
        self, original: fx.GraphModule, batches: Sequence[Batch], effort: Effort = THOROUGH, *, seed: int = 0
    ) -> None:
        self._sites = refitted_sites(original)
        self._effort = effort
        layers = [_layer(original, site.layer) for site in self._sites.values()]
        targets = sum(4 * self._rows_wanted(layer) * len(layer.weight) for layer in layers)
        self._share = min(1.0, TARGET_BYTES / max(targets, 1))
        """Of the rows that are wanted, those that there is memory for."""
        self._generator = torch.Generator().manual_seed(seed)
        inputs = tuple(torch.cat(parts) for parts in zip(*(inputs for inputs, _ in batches), strict=True))
        samples = min(affordable(original.graph.nodes, inputs), effort.samples or len(inputs[0]))
        self._inputs = tuple(x[:samples].clone() for x in inputs)  # a view would drag the rest along when pickled
        self._drawn: dict[str, list[Tensor]] = {}
        """Layer -> for each chunk of samples, the output positions that became rows."""
        self._targets: dict[str, Tensor] = {}
        """Layer -> what the original has there: [rows, out]."""
        self._made: dict[str, torch.Size] = {}
        """Layer -> the shape of what it makes of the samples."""
        _Watch(original, self._sites, self._remember).run(*self._inputs)

    def _remember(self, network: nn.Module, site: Site, x: Tensor, value: Tensor) -> None:
        layer = _layer(network, site.layer)
        count = positions(layer, x)
        wanted = math.ceil(self._share * self._rows_wanted(layer) / len(x))
        self._drawn[site.layer] = [
            torch.randperm(count, generator=self._generator)[:wanted] for _ in range(0, len(x), CHUNK)
        ]
        self._targets[site.layer] = _at(layer, value, self._drawn[site.layer])
        self._made[site.layer] = value.shape

    def _rows_wanted(self, layer: nn.Conv2d | nn.Linear) -> int:
        return max(self._effort.rows, self._effort.rows_a_feature * layer.weight[0].numel())

    def _left(self, name: str, layer: nn.Conv2d | nn.Linear, kept: LayerSlice) -> Rows | None:
        """The rows of the fit of layer `name` whose positions are left, None if the batch itself or every one went.

        Tokens of a mixer and heads are positions where they are channels elsewhere.
        """
        drawn, shape = self._drawn[name], self._made[name]
        grid = range(1, len(shape) - 1) if isinstance(layer, nn.Linear) else range(2, len(shape))
        if 0 in kept.lost:
            return None
        if kept.lost.keys().isdisjoint(grid):
            return Rows(tuple(drawn), None)
        remains = torch.ones([shape[dim] for dim in grid], dtype=torch.bool)
        for place, dim in enumerate(grid):
            if dim in kept.lost:
                remains.index_fill_(place, torch.from_numpy(kept.lost[dim]), False)
        remains = remains.flatten()
        places = remains.cumsum(0) - 1  # of each position that is left among those that are
        samples = (min(CHUNK, shape[0] - first) for first in range(0, shape[0], CHUNK))
        rows = torch.cat([remains[part].repeat(n) for n, part in zip(samples, drawn, strict=True)])
        return Rows(tuple(places[part[remains[part]]] for part in drawn), rows.nonzero()[:, 0]) if rows.any() else None

    def apply(
        self,
        network: fx.GraphModule,
        slices: Mapping[str, LayerSlice],
        each: Callable[[str, Tensor], None] | None = None,
    ) -> None:
        """Overwrite weights of `network`, built with these `slices`, in place. Deterministic.

        A layer that is factorised already has its second factor refitted. `each` is told of every layer that is called,
        refitted by then, and of what it reads: it may change the weights, or put other modules in the layer's place.
        """

        def fit(site: Site, name: str, x: Tensor, shortcut: Tensor | None) -> None:
            if site.layer not in slices:
                return
            layer, kept = _layer(network, name), slices[site.layer]
            left = self._left(site.layer, layer, kept)
            if left is None:
                return
            target = self._targets[site.layer][:, torch.from_numpy(kept.kept_out)]
            if left.places is not None:
                target = target[left.places]
            if shortcut is not None:
                target = target - _at(layer, shortcut, left.drawn)
            chunks = zip(x.split(CHUNK), left.drawn, strict=True)
            rows = torch.cat([input_rows(layer, chunk, drawn)[0] for chunk, drawn in chunks])  # [rows, features]
            norm = network.get_submodule(site.norm) if site.norm else None
            assert norm is None or isinstance(norm, _BatchNorm)
            _fit(layer, norm, rows, target)

        _Refit(network, _shortcuts(network, self._sites), fit, each).run(*self._inputs)


def _at(layer: nn.Conv2d | nn.Linear, value: Tensor, drawn: Sequence[Tensor]) -> Tensor:
    """The rows of a value of the shape of the layer's output, at the positions drawn for each chunk: [rows, out]."""
    chunks = zip(value.split(CHUNK), drawn, strict=True)
    return torch.cat([output_rows(layer, chunk, part) for chunk, part in chunks])


def _fit(layer: nn.Conv2d | nn.Linear, norm: _BatchNorm | None, rows: Tensor, target: Tensor) -> None:
    """Give layer and norm together the W and s that minimise |rows W^T + s - target|^2 / n + ridge |W - W0|^2."""
    weight = layer.weight.flatten(1).double()  # [out, features]
    if norm is not None:
        assert norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        weight = weight * scale[:, None]
    n = len(rows)
    mean, target_mean = rows.double().mean(0), target.double().mean(0)
    if norm is None and layer.bias is None:  # nowhere to put a shift
        mean, target_mean = torch.zeros_like(mean), torch.zeros_like(target_mean)
    covariance = (rows.T @ rows).double() / n - torch.outer(mean, mean)
    cross = (rows.T @ target).double() / n - torch.outer(mean, target_mean)  # [features, out]
    ridge = SEQUENTIAL_RIDGE * len(covariance) / n * covariance.diagonal().mean() + 1e-12
    fitted = solve(covariance, cross - covariance @ weight.T, ridge).T + weight
    shift = target_mean - fitted @ mean
    layer.weight.copy_(fitted.view_as(layer.weight))
    if norm is not None:  # y -> (y - m) / sqrt(v + eps) * sqrt(v + eps) + m + s, with the m and v that y now has
        assert norm.running_mean is not None and norm.running_var is not None
        spread = (fitted @ covariance * fitted).sum(1).clamp(min=0)
        norm.running_mean.copy_(fitted @ mean + (layer.bias if layer.bias is not None else 0))
        norm.running_var.copy_(spread)
        norm.weight.copy_((spread + norm.eps).sqrt())
        norm.bias.copy_(fitted @ mean + shift)
    elif layer.bias is not None:
        layer.bias.copy_(shift)


class _Runner(fx.Interpreter):
    """Runs a network in eval mode and without gradients, node by node."""

    def run(self, *args: Any, **kwargs: Any) -> Any:
        with evaluating(self.module), torch.inference_mode():
            return super().run(*args, **kwargs)


class _Watch(_Runner):
    """Runs the original network and reports, at each site, the layer's input and the value to reproduce."""

    def __init__(self, network: fx.GraphModule, sites: Mapping[str, Site], report: Any) -> None:
        super().__init__(network)
        self._sites = sites
        self._report = report
        self._inputs: dict[str, tuple[Site, Tensor]] = {}

    def run_node(self, n: fx.Node) -> Any:
        if n.name in self._sites:
            site = self._sites[n.name]
            self._inputs[site.target] = (site, self.fetch_args_kwargs_from_env(n)[0][0])
        value = super().run_node(n)
        if n.name in self._inputs:
            site, x = self._inputs.pop(n.name)
            self._report(self.module, site, x, value)
        return value


class _Refit(_Runner):
    """Runs the pruned network and has each layer fitted on its input just before it runs."""

    def __init__(
        self,
        network: fx.GraphModule,
        sites: Mapping[str, tuple[Site, fx.Node | None]],
        fit: Callable[[Site, str, Tensor, Tensor | None], None],
        each: Callable[[str, Tensor], None] | None,
    ) -> None:
        super().__init__(network)
        self._network = network
        self._sites, self._fit, self._each = sites, fit, each

    def run_node(self, n: fx.Node) -> Any:
        if n.op != "call_module":
            return super().run_node(n)
        name = str(n.target)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        if n.name in self._sites:
            site, shortcut = self._sites[n.name]
            self._fit(site, name, args[0], None if shortcut is None else self.env[shortcut])
        if self._each is not None and len(args) == 1 and isinstance(args[0], Tensor):
            self._each(name, args[0])
        return self._network.get_submodule(name)(*args, **kwargs)  # which may be another by now


def refitted_sites(network: fx.GraphModule) -> dict[str, Site]:
    """Node that calls a layer -> where its output is compared, for every layer that can be fitted."""
    order = {node: position for position, node in enumerate(network.graph.nodes)}
    calls: dict[str, list[fx.Node]] = {}
    for node in order:
        if node.op == "call_module":
            calls.setdefault(str(node.target), []).append(node)
    norms = {layer: norm for layer, norm in lone_norms(network).items() if network.get_submodule(norm).affine}
    sites = {}
    for name, nodes in calls.items():
        if len(nodes) > 1 or not _can_be_fitted(network.get_submodule(name)) or len(nodes[0].args) != 1:
            continue
        (node,) = nodes
        end = calls[norms[name]][0] if name in norms else node
        added = _added(end)
        total = added[0] if added is not None else end
        known = added is None or order[added[1]] < order[node]
        sites[node.name] = Site(name, norms.get(name), end.name, total.name, (total if known else end).name)
    return sites


def _added(end: fx.Node) -> tuple[fx.Node, fx.Node] | None:
    """The sum that a node alone goes into, and what else is added there, of the same shape; None if there is none."""
    (user,) = end.users if len(end.users) == 1 else (None,)
    if user is None or user.target not in _ADDITIONS or user.kwargs or len(user.all_input_nodes) != 2:
        return None
    (other,) = (operand for operand in user.all_input_nodes if operand is not end)
    return (user, other) if end.meta.get("shape") == other.meta.get("shape") else None


def _shortcuts(network: fx.GraphModule, sites: Mapping[str, Site]) -> dict[str, tuple[Site, fx.Node | None]]:
    """The sites that a rebuilt network still has, each with what is added to the layer where its target is made.

    A layer that runs before that is known is left out: its target cannot be told apart.
    """
    order = {node: position for position, node in enumerate(network.graph.nodes)}
    nodes = {node.name: node for node in order}
    found: dict[str, tuple[Site, fx.Node | None]] = {}
    for name, site in sites.items():
        if name not in nodes:
            continue
        added = _added(nodes[site.end])
        # Where the sum that was the target is gone, the layer is all that is left of it.
        makes_target = added is not None and (added[0].name == site.target or SKIP in added[0].meta)
        shortcut = added[1] if added is not None and makes_target else None
        if shortcut is None or order[shortcut] < order[nodes[name]]:
            found[name] = (site, shortcut)
    return found


def _can_be_fitted(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d):
        return layer.groups == 1 and layer.weight[0].numel() <= MAX_FEATURES
    return isinstance(layer, nn.Linear) and layer.in_features <= MAX_FEATURES


def _layer(network: nn.Module, name: str) -> nn.Conv2d | nn.Linear:
    layer = network.get_submodule(name)
    assert isinstance(layer, (nn.Conv2d, nn.Linear))
    return layer
