"""The layers in a row that take the place of one, by a scheme of `search_spaces.operators.schemes`, and their weights.

Weights are in the order in which their layers are called, each in the shape that its layer has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.conv import _ConvNd

from search_spaces.graph.tensors import Layer

Ranks = tuple[int, ...]
"""One number, or with `tucker` two: of what the layer reads, and of what it makes."""

Split = Callable[[str, Layer, Ranks, str], tuple[Sequence[Tensor], Tensor | None]]
"""The name of a layer, the layer, its ranks, its scheme -> the weights of its factors and the bias, [made], if any."""


def as_matrix(weight: Tensor, scheme: str) -> Tensor:
    """The matrix of a weight that has one rank: [rows, columns], the rows those of U, the columns those of V."""
    if scheme == "svd":
        return weight.flatten(1)
    made, read, height, width = weight.shape
    return weight.permute(0, 3, 1, 2).reshape(made * width, read * height)


def as_weights(shape: Sequence[int], scheme: str, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """The weights of the layers of V and of U, for a layer whose weight has this shape."""
    made, read, *kernel = shape
    rank = len(v)
    if scheme == "svd":
        return v.view(rank, read, *kernel), u.reshape(made, rank, *[1] * len(kernel))
    height, width = kernel
    return v.view(rank, read, height, 1), u.view(made, width, rank).mT[:, :, None]  # U: [made, rank, 1, kw]


def plain_split(name: str, layer: Layer, ranks: Ranks, scheme: str) -> tuple[Sequence[Tensor], Tensor | None]:
    """The factors that singular value decompositions of a layer's weight give, values shared evenly, and the bias."""
    weight = layer.weight.detach().double()
    if scheme == "tucker":
        return _plain_tucker(weight, *ranks), layer.bias
    (rank,) = ranks
    u, v = _halves(as_matrix(weight, "svd" if scheme == "svd" else "separable"))
    if scheme == "cp":
        return products_of(weight.shape, u, v, rank), layer.bias
    return as_weights(weight.shape, scheme, u[:, :rank], v[:rank]), layer.bias


def _halves(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """U, [..., rows, full rank], and V, [..., full rank, columns], components in the order of their size."""
    u, values, v = torch.linalg.svd(matrix, full_matrices=False)
    root = values.sqrt()
    return u * root[..., None, :], root[..., None] * v


def _plain_tucker(weight: Tensor, read_rank: int, made_rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """The higher-order singular value decomposition along channels (De Lathauwer et al. 2000), cut off at the ranks."""
    v = torch.linalg.svd(weight.transpose(0, 1).flatten(1), full_matrices=False)[0][:, :read_rank].mT
    u = torch.linalg.svd(weight.flatten(1), full_matrices=False)[0][:, :made_rank]
    v = torch.cat([v, v.new_zeros(read_rank - len(v), v.shape[1])])  # of a kernel of few weights there are fewer
    u = torch.cat([u, u.new_zeros(len(u), made_rank - u.shape[1])], dim=1)
    core = torch.einsum("bo,oiyx,ai->bayx", u.mT, weight, v)
    return v[:, :, None, None], core, u[:, :, None, None]


def products_of(shape: Sequence[int], u: Tensor, v: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The `rank` largest products of four vectors in a column and row of kernels: the weights of `cp`.

    Each component of `separable` is a matrix over what is read and rows times one over what is made and columns. The
    singular value decomposition of both gives products, all orthogonal to each other if those components are.

    `u`: [made * kw, components], `v`: [components, read * kh] of a weight of this `shape`.
    """
    made, read, height, width = shape
    inner, rows = _halves(v.view(-1, read, height))  # [components, read, n], [components, n, kh]
    outer, columns = _halves(u.mT.reshape(-1, made, width))  # [components, made, m], [components, m, kw]
    sizes = rows.norm(dim=2)[:, :, None] ** 2 * columns.norm(dim=2)[:, None] ** 2  # [components, n, m]
    order = sizes.flatten().argsort(descending=True, stable=True)[:rank]
    component, n, m = torch.unravel_index(order, sizes.shape)
    found = inner[component, :, n], rows[component, n], columns[component, m], outer[component, :, m]
    # [rank, read], [rank, kh], [rank, kw], [rank, made]
    a, b, c, d = (torch.cat([part, part.new_zeros(rank - len(part), part.shape[1])]) for part in found)
    return a[:, :, None, None], b[:, None, :, None], c[:, None, None, :], d.mT[:, :, None, None]


@dataclass(frozen=True)
class _Place:
    """What of a layer's geometry one of its factors has."""

    dims: tuple[int, ...] | None = ()
    """The dimensions along which it has the layer's kernel, stride, padding and dilation; None: all."""
    within: bool = False
    """Whether it works within each channel."""


_PLACES = {
    "svd": (_Place(None), _Place()),
    "separable": (_Place((0,)), _Place((1,))),
    "tucker": (_Place(), _Place(None), _Place()),
    "cp": (_Place(), _Place((0,), within=True), _Place((1,), within=True), _Place()),
}
"""Scheme -> the place of each factor."""


def in_a_row(layer: Layer, scheme: str, weights: Sequence[Tensor], bias: Tensor | None) -> nn.Sequential:
    """The layers of these weights, of the kind and geometry of `layer`."""
    parts: list[Layer] = []
    for weight, place in zip(weights, _PLACES[scheme], strict=True):
        last = bias if len(parts) == len(weights) - 1 else None
        if isinstance(layer, nn.Linear):
            part: Layer = nn.Linear(weight.shape[1], len(weight), bias=last is not None)
        else:
            part = _convolution(layer, weight, place, bias=last is not None)
        with torch.no_grad():
            part.weight.copy_(weight.reshape(part.weight.shape))
            if last is not None and part.bias is not None:
                part.bias.copy_(last)
        parts.append(part)
    return nn.Sequential(*parts).to(layer.weight).train(layer.training)


def _convolution(layer: _ConvNd, weight: Tensor, place: _Place, *, bias: bool) -> _ConvNd:
    made, read = weight.shape[:2]
    groups = made if place.within else 1

    def along(value: Any, nothing: int) -> Any:
        if isinstance(value, str):  # "same" and "valid" say the same of every kernel
            return value
        dims = range(len(value)) if place.dims is None else place.dims
        return tuple(size if dim in dims else nothing for dim, size in enumerate(value))

    geometry = {name: along(getattr(layer, name), 1) for name in ("kernel_size", "stride", "dilation")}
    kind: Any = type(layer)
    part: _ConvNd = kind(
        read * groups,
        made,
        **geometry,
        padding=along(layer.padding, 0),
        groups=groups,
        padding_mode=layer.padding_mode,
        bias=bias,
    )
    return part


def call_all(graph: fx.Graph, name: str, scheme: str) -> None:
    """Call the factors where the layer was called, so that what follows the last is seen to follow it."""
    owner = graph.owning_module
    assert owner is not None
    factors = owner.get_submodule(name)
    assert isinstance(factors, nn.Sequential)
    *inner, last = range(len(factors))
    for node in list(graph.nodes):
        if node.op != "call_module" or node.target != name:
            continue
        made, read = node.meta.get("shape"), node.all_input_nodes[0].meta.get("shape")
        for i in inner:
            with graph.inserting_before(node):
                call = graph.call_module(f"{name}.{i}", node.args, node.kwargs)
            if isinstance(made, tuple):
                call.meta["shape"] = _shape_after(factors, scheme, i, made, read)
            node.args, node.kwargs = (call,), {}
        node.target = f"{name}.{last}"


def _shape_after(
    factors: nn.Sequential, scheme: str, last: int, made: tuple[int, ...], read: object
) -> tuple[int, ...]:
    """What the factors up to `last` make, where all make `made` of `read`."""
    factor = factors[last]
    width = len(factor.weight)  # type: ignore[arg-type]
    if not isinstance(factor, _ConvNd):
        return (*made[:-1], width)
    dims = len(factor.kernel_size)
    done = [place.dims for place in _PLACES[scheme][: last + 1]]
    sizes = [
        made[dim] if not isinstance(read, tuple) or any(d is None or dim + dims in d for d in done) else read[dim]
        for dim in range(-dims, 0)
    ]
    return (*made[: -dims - 1], width, *sizes)
