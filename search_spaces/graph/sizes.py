"""Sizes that a network computes while it runs, and what they must come to once channels are gone.

`reshape(b, n, heads, c // heads)` reads `c` from a tensor that may have been narrowed: the number that it comes to
there may not be the one that is needed here. Rules read every size as the number that it was while recording. A
recorded size stays in the graph wherever it comes to what is needed by itself; elsewhere it is written anew, as a
number, or, where it grows with the batch, as the share of itself that is left.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import fx

from search_spaces.graph.edits import Kept
from search_spaces.graph.labels import Labelled

VARIES = "varies"
"""The key in `meta` that says whether a size, or each dimension of a tensor, was another with another batch."""


@dataclass(frozen=True)
class Shaped:
    """A call that is given the sizes of its result, one by one or as one sequence."""

    out: Labelled
    """The labels along the dimensions whose sizes are given."""
    first: int
    """The argument at which they begin."""
    name: str = ""
    """The name under which they may be given instead."""


class Sizes:
    """Writes the sizes of the graph of a network that has lost channels."""

    def __init__(self, labels: Mapping[str, np.ndarray], kept: Kept, copies: Mapping[fx.Node, fx.Node]) -> None:
        """`labels`: size node -> labels along the dimension that it reads. `copies`: recorded -> node of the graph."""
        self._labels, self._kept, self._copies = labels, kept, copies
        self._recorded: dict[fx.Node, int] = {}
        self._left: dict[fx.Node, int] = {}

    def settle(self, recorded: fx.Node, shaped: Shaped | None) -> None:
        """Give the copy of a recorded call the sizes that it needs: those of `shaped`, and the recorded ones."""
        new = self._copies[recorded]
        if shaped is None:
            new.args = fx.map_arg(recorded.args, self._as_recorded)
            new.kwargs = fx.map_arg(recorded.kwargs, self._as_recorded)
            return
        if shaped.name in recorded.kwargs:
            given = recorded.kwargs[shaped.name]
            new.kwargs = {**new.kwargs, shaped.name: self._fitted(given, shaped.out)}
            return
        head, given = recorded.args[: shaped.first], recorded.args[shaped.first :]
        nested = len(given) >= 1 and isinstance(given[0], (tuple, list))
        sizes = self._fitted(given[0] if nested else given, shaped.out)
        new.args = (*fx.map_arg(head, self._as_recorded), *((sizes, *given[1:]) if nested else sizes))

    def _fitted(self, given: Any, out: Labelled) -> tuple[Any, ...]:
        """The sizes `given` in the recorded graph, as many as remain of each dimension."""
        sizes = []
        for size, labels in zip(given, out, strict=True):
            if isinstance(size, fx.Node):
                sizes.append(self._give(size, self._kept.count(labels)))
            else:
                sizes.append(self._kept.count(labels) if self._kept.shrinks(labels) and size != -1 else size)
        return tuple(sizes)

    def _as_recorded(self, node: fx.Node) -> Any:
        """The argument of a call: a tensor, or a size that is to be what it was."""
        return self._give(node, self._value(node, self._recorded, len)) if is_size(node) else self._copies[node]

    def _give(self, size: fx.Node, wanted: int) -> Any:
        """`wanted`, with the batch of recording, by way of the recorded node if that is what it comes to."""
        left = self._value(size, self._left, self._kept.count)
        new = self._copies[size]
        if left == wanted:
            return new
        if not size.meta.get(VARIES):
            return wanted
        with new.graph.inserting_after(new):
            product = new.graph.call_function(operator.mul, (new, wanted))
        with new.graph.inserting_after(product):
            return new.graph.call_function(operator.floordiv, (product, left))

    def _value(self, node: fx.Node, known: dict[fx.Node, int], count: Callable[[np.ndarray], int]) -> int:
        """What a size comes to where `count` says how many positions a dimension has."""
        if node not in known:
            if node.name in self._labels:
                known[node] = count(self._labels[node.name])
            else:
                assert callable(node.target)
                known[node] = node.target(*fx.map_arg(node.args, lambda other: self._value(other, known, count)))
        return known[node]


def is_size(node: fx.Node) -> bool:
    """Whether a node of a recorded graph computes a size, not a tensor."""
    return "shape" not in node.meta and node.op in ("call_function", "call_method")


def drop_unused_sizes(graph: fx.Graph) -> None:
    """Remove sizes that no call uses."""
    for node in reversed(graph.nodes):
        if is_size(node) and not node.users:
            graph.erase_node(node)
