"""Attention over tensors of other than four dimensions, written with four: all that ONNX's exporter takes."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram

_ATTENTION = torch.ops.aten.scaled_dot_product_attention.default


def with_one_batch(program: ExportedProgram) -> None:
    """Flatten, in place, the leading dimensions of every attention over tensors of five dimensions and more, and give
    those of three another.

    The first dimension may vary; where another does, or where a mask has as many, the call stays as it is.
    """
    graph = program.graph_module.graph
    for node in list(graph.nodes):
        if node.op == "call_function" and node.target == _ATTENTION:
            shapes = [_shape(argument) for argument in node.args[:4]]
            if all(len(shape) == 3 for shape in shapes[:3]):
                _lift(graph, node, shapes)
                continue
            inner = shapes[0][1:-3]
            same = all(shape[1:-3] == inner and len(shape) > 4 for shape in shapes[:3])
            if same and all(isinstance(size, int) for size in inner) and all(len(mask) < 5 for mask in shapes[3:]):
                _flatten(graph, node, len(shapes[0]) - 4, list(inner))
    program.graph_module.recompile()


def _flatten(graph: fx.Graph, node: fx.Node, last: int, inner: list[int]) -> None:
    """Call attention on tensors whose dimensions from 0 to `last` are one, and part them again."""
    values: tuple[Any, ...] = node.args[:3]
    with graph.inserting_before(node):
        flat = [graph.call_function(torch.ops.aten.flatten.using_ints, (x, 0, last)) for x in values]
    node.args = (*flat, *node.args[3:])
    with graph.inserting_after(node):
        parted = graph.call_function(torch.ops.aten.unflatten.int, (node, 0, [-1, *inner]))
    for new, old in zip((*flat, parted), (*values, node), strict=True):
        new.meta = dict(old.meta)  # where it was called; what it is like is found anew by the exporter
    node.replace_all_uses_with(parted, delete_user_cb=lambda user: user is not parted)


def _lift(graph: fx.Graph, node: fx.Node, shapes: list[tuple[Any, ...]]) -> None:
    """Call attention on tensors, and on a mask of three dimensions, with a second dimension of 1, and drop it again."""
    values: tuple[Any, ...] = node.args[:4]
    with graph.inserting_before(node):
        lifted = [
            graph.call_function(torch.ops.aten.unsqueeze.default, (x, 1)) if len(shape) == 3 else x
            for x, shape in zip(values, shapes, strict=True)
        ]
    node.args = (*lifted, *node.args[4:])
    with graph.inserting_after(node):
        dropped = graph.call_function(torch.ops.aten.squeeze.dim, (node, 1))
    for new, old in zip((*lifted, dropped), (*values, node), strict=True):
        if new is not old:
            new.meta = dict(old.meta)
    node.replace_all_uses_with(dropped, delete_user_cb=lambda user: user is not dropped)


def _shape(argument: Any) -> tuple[Any, ...]:
    value = argument.meta.get("val") if isinstance(argument, fx.Node) else None
    return tuple(value.shape) if isinstance(value, torch.Tensor) else ()
