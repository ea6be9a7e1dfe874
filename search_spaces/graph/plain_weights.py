"""Layers with a forward of their own, as plain layers: those that compute their weight first, or pad their input.

A weight that is standardised or normalised, by a parametrization or by the layer's forward, is the same each time while
the network is evaluated. A convolution that pads as TensorFlow does calls the function with its own weight. A plain
layer can be narrowed, factorised and refitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx, nn
from torch.nn import functional as F

OWNER = "owner"
"""The key in `meta` of the module whose forward made a call."""

_FUNCTIONS: dict[Any, type[nn.Module]] = {
    F.linear: nn.Linear,
    F.conv1d: nn.Conv1d,
    F.conv2d: nn.Conv2d,
    F.conv3d: nn.Conv3d,
}
_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


def fold_weights(root: nn.Module, graph: fx.Graph, outputs: Mapping[fx.Node, Tensor]) -> None:
    """Put plain layers into `root` and `graph` in place of those whose weight is theirs, or computed from state alone.

    `outputs`: what each call returned while it was recorded.
    """
    fixed: set[fx.Node] = set()
    """The calls that depend on nothing but state."""
    for node in list(graph.nodes):
        if node.op == "get_attr" or (node.all_input_nodes and fixed.issuperset(node.all_input_nodes)):
            fixed.add(node)
        kind = _FUNCTIONS.get(node.target)
        owner = str(node.meta.get(OWNER, ""))
        if kind is None or not owner or not isinstance(root.get_submodule(owner), kind):
            continue
        given: dict[str, Any] = {**dict(zip(_ARGUMENTS, node.args, strict=False)), **node.kwargs}
        weight, bias = given["weight"], given.get("bias")
        if weight not in fixed or (bias is not None and bias not in fixed):
            continue
        if weight.op == "get_attr":
            layer = _own(root, graph, owner, kind, given)
            if layer is None:
                continue
        else:
            layer = _plain(kind, given, outputs[weight].detach(), None if bias is None else outputs[bias].detach())
        root.set_submodule(owner, layer.train(root.training))
        with graph.inserting_before(node):
            call = graph.call_module(owner, (given["input"],))
        call.meta = dict(node.meta)
        node.replace_all_uses_with(call)
        graph.erase_node(node)
    _drop_unused(graph, fixed)


def _own(
    root: nn.Module, graph: fx.Graph, owner: str, kind: type[nn.Module], given: Mapping[str, Any]
) -> nn.Module | None:
    """A layer of this kind with the very weight and bias of module `owner`, called with the arguments `given`.

    None if they are not its own, if it is called more than once, or if the network uses anything else of it.
    """
    mine = {"weight": f"{owner}.weight", "bias": f"{owner}.bias"}
    taken = {name: given[name] for name in mine if given.get(name) is not None}
    if any(node.target != mine[name] for name, node in taken.items()):
        return None
    inside = [n for n in graph.nodes if n.op in ("get_attr", "call_module") and str(n.target).startswith(f"{owner}.")]
    if any(n not in taken.values() or len(n.users) > 1 for n in inside):
        return None
    module = root.get_submodule(owner)
    layer = _plain(kind, given, module.weight, module.bias if "bias" in taken else None)  # type: ignore[arg-type]
    for name in taken:
        setattr(layer, name, getattr(module, name))  # which other modules may share
    return layer


def _plain(kind: type[nn.Module], given: Mapping[str, Any], weight: Tensor, bias: Tensor | None) -> nn.Module:
    """A layer of this kind with this weight, called with the arguments `given`."""
    groups = given.get("groups", 1)
    sizes = (weight.shape[1] * groups, weight.shape[0])
    made: Any = kind
    if kind is nn.Linear:
        layer = made(*sizes, bias=bias is not None)
    else:
        options = {name: given[name] for name in ("stride", "padding", "dilation", "groups") if name in given}
        layer = made(*sizes, tuple(weight.shape[2:]), bias=bias is not None, **options)
    set_weights(layer, weight, bias)
    return layer  # type: ignore[no-any-return]


def set_weights(layer: nn.Module, weight: Tensor, bias: Tensor | None) -> None:
    """Give a layer copies of this weight and bias as its parameters."""
    layer.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())


def _drop_unused(graph: fx.Graph, fixed: set[fx.Node]) -> None:
    for node in reversed(list(graph.nodes)):
        if node in fixed and not node.users:
            graph.erase_node(node)
