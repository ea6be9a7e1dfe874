"""Convolutions that take in the activation and the addition after them, for faster evaluation."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

_ACTIVATIONS = {"relu": "relu", "relu_": "relu", "relu6": "hardtanh", "hardtanh": "hardtanh", "silu": "swish"}
"""Name of a torch function -> oneDNN's name for it."""
_IN_PLACE_ADDS = ("iadd", "add_", "__iadd__")
_ADDS = ("add", "__add__", *_IN_PLACE_ADDS)


class FusedConv(nn.Module):
    """A convolution and what follows it in one pass over memory: `act(conv(x))` or `act(conv(x) + other)`.

    Calls the oneDNN operators that torch.compile generates on a CPU, and so saves the compilation, which takes
    seconds a network. Element-wise steps take as long as convolutions in a small network; without them an
    evaluation of ResNet-56 in bfloat16 is about twice as fast.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.geometry = (conv.padding, conv.stride, conv.dilation, conv.groups)
        self.activation: str | None = None
        self.scalars: list[float] = []

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """`x`: [n, in, height, width]; `other`, which is added before the activation, as the result."""
        call, layer = torch.ops.mkldnn._convolution_pointwise, (self.weight, self.bias, *self.geometry)
        if other is None:
            out: Tensor = call(x, *layer, self.activation or "none", self.scalars, "")
        else:
            out = call.binary(x, other, *layer, "add", 1.0, self.activation, self.scalars, None)
        return out


def available(dtype: torch.dtype) -> bool:
    """Whether this PyTorch has the fused operators for this processor and `dtype`."""
    return (
        platform.machine() in ("x86_64", "AMD64")
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
        # Without AVX-512 they refuse what plain convolutions compute.
        and (dtype != torch.bfloat16 or torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


def fuse(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """`network`, that is to run in `dtype`, changed in place: fewer passes over memory, the same result to rounding.

    A step is taken in where nothing else uses the value before it. Only convolutions of a recorded network, whose
    nodes carry `meta["shape"]`; anything else stays as it is.
    """
    if not isinstance(network, fx.GraphModule) or not available(dtype):
        return network
    nodes = list(network.graph.nodes)
    place = {node: i for i, node in enumerate(nodes)}
    calls = Counter(node.target for node in nodes if node.op == "call_module")
    for node in nodes:
        if node.op != "call_module" or calls[node.target] != 1 or len(node.args) != 1 or "shape" not in node.meta:
            continue
        conv = network.get_submodule(str(node.target))
        if type(conv) is nn.Conv2d and conv.padding_mode == "zeros" and not isinstance(conv.padding, str):
            fused = FusedConv(conv)
            _take_addition(node, place)
            fused.activation, fused.scalars = _take_activation(node)
            if fused.activation or len(node.args) == 2:
                network.set_submodule(str(node.target), fused)
    network.recompile()
    return network


def _take_addition(node: fx.Node, place: Mapping[fx.Node, int]) -> None:
    """Let a convolution's node add what only its result is added to, if that is already there: of two convolutions
    that are added, the later one does it. Between the two nodes only layers may stand, as they change nothing in place.
    """
    add = _lone_user(node)
    if add is None or _name(add) not in _ADDS or len(add.args) != 2 or add.kwargs:
        return
    other = add.args[1] if add.args[0] is node else add.args[0]
    if not isinstance(other, fx.Node) or other is node or place[other] > place[node]:
        return
    if len(node.meta["shape"]) != 4 or other.meta.get("shape") != node.meta["shape"]:
        return
    if _name(add) in _IN_PLACE_ADDS and add.args[0] is other and (other.op != "call_module" or len(other.users) > 1):
        return  # the other tensor is to hold the sum from now on
    between = node.next
    while between is not add:
        if between.op != "call_module":
            return
        between = between.next
    node.args = (node.args[0], other)
    add.replace_all_uses_with(node)
    node.graph.erase_node(add)


def _take_activation(node: fx.Node) -> tuple[str | None, list[Any]]:
    """Remove the activation that alone uses `node`; its oneDNN name and parameters, or None."""
    user = _lone_user(node)
    if user is None or _name(user) not in _ACTIVATIONS or len(node.meta["shape"]) != 4:
        return None, []
    name = _ACTIVATIONS[_name(user)]
    scalars: list[Any] = [0.0, 6.0] if _name(user) == "relu6" else []
    if _name(user) == "hardtanh":
        bounds = {"min_val": -1.0, "max_val": 1.0, **user.kwargs}
        bounds.update(zip(("min_val", "max_val"), user.args[1:3], strict=False))
        scalars = [bounds["min_val"], bounds["max_val"]]
    user.replace_all_uses_with(node)
    node.graph.erase_node(user)
    return name, scalars


def _lone_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _name(node: fx.Node) -> str:
    if node.op == "call_method":
        return str(node.target)
    return getattr(node.target, "__name__", "") if node.op == "call_function" else ""
