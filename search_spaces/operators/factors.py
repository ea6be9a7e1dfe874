"""Two layers in a row in the place of one: a matrix that its weight is read as becomes U V of a lower rank.

`svd`: the weight as [made, read * taps]. V is a layer of the same geometry with `rank` outputs, U a linear layer or 1x1
convolution (Denton et al. 2014, "Exploiting linear structure within convolutional networks"; Zhang et al. 2015,
section 2.1).

`separable`: a kernel of kh x kw as [made * kw, read * kh]. V is a convolution of kh x 1, U one of 1 x kw (Jaderberg et
al. 2014, "Speeding up convolutional neural networks with low rank expansions", scheme 2). The two commute with any
padding, since each pads along its own dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.conv import _ConvNd

from search_spaces.graph.tensors import Layer

SCHEMES = ("svd", "separable")

Split = Callable[[str, Layer, int, str], tuple[Tensor, Tensor, Tensor | None]]
"""The name of a layer, the layer, its rank, its scheme -> U: [rows, rank], V: [rank, columns], and the bias, [made], if
there is one."""


def can_be_separable(layer: nn.Module) -> bool:
    """Whether a layer has a kernel of several rows and several columns."""
    return isinstance(layer, nn.Conv2d) and min(layer.kernel_size) > 1


def as_matrix(weight: Tensor, scheme: str) -> Tensor:
    """The matrix of a weight whose rank is chosen: [rows, columns], the rows those of U, the columns those of V."""
    if scheme == "svd":
        return weight.flatten(1)
    made, read, height, width = weight.shape
    return weight.permute(0, 3, 1, 2).reshape(made * width, read * height)


def plain_split(name: str, layer: Layer, rank: int, scheme: str) -> tuple[Tensor, Tensor, Tensor | None]:
    """The truncated singular value decomposition of a layer's weight, its values shared evenly, and the bias."""
    matrix = as_matrix(layer.weight.detach().double(), scheme)
    u, values, v = torch.linalg.svd(matrix, full_matrices=False)
    root = values[:rank].sqrt()
    return u[:, :rank] * root, root[:, None] * v[:rank], layer.bias


def pair(layer: Layer, scheme: str, u: Tensor, v: Tensor, bias: Tensor | None) -> nn.Sequential:
    """The layers V and then U, of the kind and geometry of `layer`."""
    rank = len(v)
    if isinstance(layer, nn.Linear):
        first: Layer = nn.Linear(layer.in_features, rank, bias=False)
        second: Layer = nn.Linear(rank, layer.out_features, bias=bias is not None)
    else:
        kind: Any = type(layer)
        names = ("kernel_size", "stride", "padding", "dilation")
        one, other = zip(*(_halves(name, getattr(layer, name), scheme) for name in names), strict=True)
        mode = layer.padding_mode
        first = kind(layer.in_channels, rank, *one, bias=False, padding_mode=mode)
        second = kind(rank, layer.out_channels, *other, bias=bias is not None, padding_mode=mode)
    with torch.no_grad():
        first.weight.copy_(v.view_as(first.weight))
        rows = u if scheme == "svd" else u.view(len(second.weight), -1, rank).mT  # [made, rank, kw]
        second.weight.copy_(rows.reshape(second.weight.shape))
        if bias is not None:
            assert second.bias is not None
            second.bias.copy_(bias)
    return nn.Sequential(first, second).to(layer.weight).train(layer.training)


def call_both(graph: fx.Graph, name: str) -> None:
    """Call the two factors where the layer was called, so that what follows the second is seen to follow it."""
    owner = graph.owning_module
    assert owner is not None
    factor = owner.get_submodule(f"{name}.0")
    for node in list(graph.nodes):
        if node.op != "call_module" or node.target != name:
            continue
        shape = node.meta.get("shape")
        with graph.inserting_before(node):
            first = graph.call_module(f"{name}.0", node.args, node.kwargs)
        if isinstance(shape, tuple):
            first.meta["shape"] = _shape_between(factor, shape, node.all_input_nodes[0].meta.get("shape"))
        node.target, node.args, node.kwargs = f"{name}.1", (first,), {}


def _shape_between(factor: nn.Module, made: tuple[int, ...], read: object) -> tuple[int, ...]:
    """What the first factor makes where both make `made` of `read`."""
    if not isinstance(factor, _ConvNd):
        return (*made[:-1], len(factor.weight))  # type: ignore[arg-type]
    channel = len(made) - len(factor.kernel_size) - 1
    whole = (*made[:channel], len(factor.weight), *made[channel + 1 :])
    across = len(factor.kernel_size) == 2 and factor.kernel_size[1] == factor.stride[1] == 1
    return (*whole[:-1], read[-1]) if across and isinstance(read, tuple) else whole


def _halves(name: str, value: Any, scheme: str) -> tuple[Any, Any]:
    """What becomes of a part of a convolution's geometry in V and in U."""
    nothing = 0 if name == "padding" else 1
    if isinstance(value, str):  # "same" and "valid" say the same of every kernel
        return value, value
    if scheme == "svd":
        return value, nothing
    return (value[0], nothing), (nothing, value[1])
