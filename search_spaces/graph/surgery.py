"""Cut a recorded network to the channels and calls that are kept, and put weights back where they came from."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from search_spaces.graph.analysis import Analysis
from search_spaces.graph.edits import Kept
from search_spaces.graph.sizes import Sizes, drop_unused_sizes, is_size


def kept_without(analysis: Analysis, removed_roots: Iterable[int]) -> Kept:
    """What remains when the channels of `removed_roots` go."""
    parts = np.isin(analysis.labels.parts(np.arange(analysis.labels.count)), list(removed_roots))
    return Kept(parts[:, 0] | parts[:, 1])


def build(
    analysis: Analysis, kept: Kept, rewire: Callable[[fx.Graph, Sequence[fx.Node]], None] | None = None
) -> fx.GraphModule:
    """A new network with the channels that are `kept`; the recorded one is not changed.

    Module names and state-dict keys are those of the original. Parameters are sliced, the attributes of layers and
    the sizes written into calls follow. `rewire(graph, nodes)` may remove calls from the graph, whose nodes are given
    in their order, and add some; modules that are no longer called are not part of the new network.
    """
    network = analysis.network
    graph, nodes = _edited_graph(analysis, kept)
    if rewire is not None:
        rewire(graph, nodes)
    drop_unused_sizes(graph)
    small = fx.GraphModule(_modules_of(network), graph, class_name=network.__class__.__name__)
    _slice_state(analysis, kept, small)
    called = {str(node.target) for node in graph.nodes if node.op == "call_module"}
    for path, edit in analysis.layer_edits.items():
        if path in called:
            edit(small.get_submodule(path), kept)
    for module in small.modules():
        _follow_weights(module)
    small.train(network.training)
    return small


def restore(analysis: Analysis, kept: Kept, small: nn.Module) -> fx.GraphModule:
    """The inverse of `build`: a network of the original's shape with the weights of `small`, zeros where channels went.

    It computes what `small` computes, as nothing reads a channel through zeros, unless it normalises over channels.
    """
    whole = copy.deepcopy(analysis.network)
    tensors = whole.state_dict()
    for name, value in small.state_dict().items():
        if not isinstance(value, Tensor):  # a module's own extra state
            continue
        along = analysis.state.get(analysis.first_name(name))
        if along is None:
            tensors[name].copy_(value)
        else:
            tensors[name].zero_()
            tensors[name][np.ix_(*(kept.indices(labels) for labels in along))] = value.to(tensors[name])
    return whole


def _modules_of(network: fx.GraphModule) -> nn.Module:
    """A copy of the modules and state of `network`, without its graph."""
    root = nn.Module()
    for name, child in network.named_children():
        root.add_module(name, copy.deepcopy(child))
    for name, parameter in network.named_parameters(recurse=False):
        root.register_parameter(name, copy.deepcopy(parameter))
    persistent = set(network.state_dict())
    for name, buffer in network.named_buffers(recurse=False):
        root.register_buffer(name, buffer.clone(), persistent=name in persistent)
    return root


def _edited_graph(analysis: Analysis, kept: Kept) -> tuple[fx.Graph, list[fx.Node]]:
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    sizes = Sizes(analysis.sizes, kept, copies)
    for node in analysis.network.graph.nodes:
        new = graph.node_copy(node, lambda old: copies[old])
        copies[node] = new
        if not is_size(node):
            sizes.settle(node, analysis.shaped.get(node.name))
        if node.name in analysis.edits:
            analysis.edits[node.name](new, kept)
    return graph, list(copies.values())


def _slice_state(analysis: Analysis, kept: Kept, small: fx.GraphModule) -> None:
    """Cut every parameter and buffer along the dimensions that lost channels; shared ones stay shared."""
    present = set(dict(small.named_parameters(remove_duplicate=False)))
    present |= set(dict(small.named_buffers(remove_duplicate=False)))
    # The analysis knows a parameter that several layers share under its first name only.
    for first, names in analysis.names.items():
        names = [name for name in names if name in present]
        if not names:
            continue
        owner, attribute = _owner(small, names[0])
        tensor = getattr(owner, attribute)
        along = analysis.state.get(first, ())
        new = tensor.detach()
        for dim, labels in enumerate(along):
            if kept.shrinks(labels):
                new = new.index_select(dim, torch.from_numpy(kept.indices(labels)))
        if new.shape != tensor.shape:
            setattr(
                owner, attribute, nn.Parameter(new, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else new
            )
        for name in names[1:]:
            setattr(*_owner(small, name), getattr(owner, attribute))


def _owner(network: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, attribute = name.rpartition(".")
    return network.get_submodule(path), attribute


def _follow_weights(module: nn.Module) -> None:
    """Set the sizes that a layer repeats beside its weights."""
    weight: Any = getattr(module, "weight", None)
    if isinstance(module, nn.modules.conv._ConvTransposeNd):
        module.in_channels, module.out_channels = weight.shape[0], weight.shape[1] * module.groups
    elif isinstance(module, nn.modules.conv._ConvNd):
        module.out_channels, module.in_channels = weight.shape[0], weight.shape[1] * module.groups
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = weight.shape
    elif isinstance(module, nn.modules.batchnorm._NormBase):
        state = weight if weight is not None else module.running_mean
        if state is not None:
            module.num_features = len(state)
    elif isinstance(module, nn.GroupNorm) and weight is not None:
        module.num_channels = len(weight)
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(weight)
    elif isinstance(module, nn.Embedding):
        module.embedding_dim = weight.shape[1]
