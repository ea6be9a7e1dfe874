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
    _between(graph, node, flat, torch.ops.aten.unflatten.int, (0, [-1, *inner]))


def _lift(graph: fx.Graph, node: fx.Node, shapes: list[tuple[Any, ...]]) -> None:
    """Call attention on tensors, and on a mask of three dimensions, with a second dimension of 1, and drop it again."""
    values: tuple[Any, ...] = node.args[:4]
    with graph.inserting_before(node):
        lifted = [
            graph.call_function(torch.ops.aten.unsqueeze.default, (x, 1)) if len(shape) == 3 else x
            for x, shape in zip(values, shapes, strict=True)
        ]
    _between(graph, node, lifted, torch.ops.aten.squeeze.dim, (1,))


def _between(graph: fx.Graph, node: fx.Node, inputs: list[Any], after: Any, arguments: tuple[Any, ...]) -> None:
    """Have `node` read `inputs` in place of its first arguments, and its users what `after` makes of it."""
    values = node.args[: len(inputs)]
    node.args = (*inputs, *node.args[len(inputs) :])
    with graph.inserting_after(node):
        made = graph.call_function(after, (node, *arguments))
    for new, old in zip((*inputs, made), (*values, node), strict=True):
        if new is not old:
            new.meta = dict(old.meta)  # type: ignore[union-attr]  # what it is like is found anew by the exporter
    node.replace_all_uses_with(made, delete_user_cb=lambda user: user is not made)


def _shape(argument: Any) -> tuple[Any, ...]:
    value = argument.meta.get("val") if isinstance(argument, fx.Node) else None
    return tuple(value.shape) if isinstance(value, torch.Tensor) else ()
