"""Which calls of a recorded network remain when some give way to a value before them, and the graph that is left.

A call gives way: whoever used its value uses an earlier one in its place. What then leads to no output is gone. An
activation that would follow the same activation gives way too, so that a residual block goes with the ReLU after its
sum where it was fed by one (relu(relu(x)) = relu(x)).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import fx, nn

from search_spaces.graph.counting import MACS
from search_spaces.graph.inplace import changes_in_place
from search_spaces.graph.sizes import is_size

IDEMPOTENT = ("relu", "relu6")
"""Applied twice they do no more than once."""

SHAPE_ALONE = (
    *("zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like", "randint_like"),
    *("new_zeros", "new_ones", "new_empty", "new_full"),
)
"""Calls whose values do not depend on those of the tensor they are given."""

SKIP = "skip"
"""The key in `meta` of a sum that a skip has added."""


@dataclass(frozen=True)
class Remaining:
    """What remains of the calls of a network, by their position."""

    stands_for: list[int]
    """Position of the call whose value is used in place of each one's; its own, if it does not give way: [n_calls]."""
    reached: np.ndarray
    """Whether the value of a call, or what stands for it, is used: [n_calls] bool."""

    @property
    def alive(self) -> np.ndarray:
        """Whether a call is still made: [n_calls] bool."""
        alive: np.ndarray = self.reached & (np.array(self.stands_for) == np.arange(len(self.reached)))
        return alive


class Wiring:
    """The calls of a recorded network by position, and which of them use which."""

    def __init__(self, graph: fx.Graph, kinds: Mapping[str, str]) -> None:
        """`kinds`: call -> the name of its function."""
        self.nodes: tuple[fx.Node, ...] = tuple(graph.nodes)
        self.position = {node.name: i for i, node in enumerate(self.nodes)}
        self.inputs = [[self.position[other.name] for other in node.all_input_nodes] for node in self.nodes]
        self.kind = [kinds.get(node.name, "").removesuffix("_") for node in self.nodes]
        self._activations = [i for i, kind in enumerate(self.kind) if kind in IDEMPOTENT and len(self.inputs[i]) == 1]
        self._fed: list[int] = []  # the inputs of the network on whose values each call depends, as bits
        for i, (node, inputs) in enumerate(zip(self.nodes, self.inputs, strict=True)):
            bits = 1 << i if node.op == "placeholder" else 0
            if self.kind[i] not in SHAPE_ALONE and not is_size(node):
                for j in inputs:
                    bits |= self._fed[j]
            self._fed.append(bits)
        self._before: list[int] = []  # the calls that each one depends on, itself included, as bits
        for i, inputs in enumerate(self.inputs):
            bits = 1 << i
            for j in inputs:
                bits |= self._before[j]
            self._before.append(bits)

        # The output, and what nobody uses and is there all the same, since the original is counted with it.
        self._ends = [i for i, n in enumerate(self.nodes) if n.op == "output" or (n.meta.get(MACS) and not n.users)]

    def depends(self, i: int, j: int) -> bool:
        """Whether call `i` uses call `j`, directly or not, or is it."""
        return bool(self._before[i] >> j & 1)

    def fed_alike(self, i: int, j: int) -> bool:
        """Whether call `i` depends on the values of all inputs of the network on which call `j` does."""
        return self._fed[i] | self._fed[j] == self._fed[i]

    def without(self, gives_way: Mapping[int, int]) -> Remaining:
        """What remains when some calls give way: position -> that of an earlier call that takes its place."""
        stands_for = list(range(len(self.nodes)))
        for i in sorted((*gives_way, *self._activations)) if gives_way else ():
            if i in gives_way:
                stands_for[i] = stands_for[gives_way[i]]
                continue
            (source,) = self.inputs[i]
            other = stands_for[source]
            if other != source and self.kind[other] == self.kind[i]:
                stands_for[i] = other
        reached = bytearray(len(self.nodes))
        for i in self._ends:
            reached[i] = 1
        for i in range(len(self.nodes) - 1, -1, -1):
            if not reached[i]:
                continue
            # Step by step, so that everything is reached that would be there if it did not give way itself.
            for j in (gives_way[i],) if i in gives_way else self.inputs[i]:
                reached[j] = 1
        return Remaining(stands_for, np.frombuffer(reached, dtype=np.uint8).astype(bool))


@dataclass(frozen=True)
class Addition:
    """A value to be added, by the positions of the calls involved."""

    source: int
    """What is added."""
    target: int
    """To what: the value of this call, or, where it is a sum, to its operand `operand`."""
    operand: int | None = None


def rewrite(
    graph: fx.Graph,
    copies: Sequence[fx.Node],
    remaining: Remaining,
    additions: Sequence[Addition],
    network: nn.Module,
) -> None:
    """Change `graph`, a copy of the recorded one, in place: what gives way goes, what is added comes.

    `copies`: the node of each call in it, by position. `network`: the recorded one.
    """
    for i, other in enumerate(remaining.stands_for):
        if other != i:
            copies[i].replace_all_uses_with(copies[other])
    alive = remaining.alive
    for i in reversed(range(len(copies))):
        if not alive[i] and copies[i].op not in ("placeholder", "output"):
            graph.erase_node(copies[i])
    sums: dict[int, tuple[fx.Node, fx.Node]] = {}
    for addition in additions:
        _add(graph, copies, remaining, addition, sums)
    _protect_from_changes_in_place(graph, network)


def _add(
    graph: fx.Graph,
    copies: Sequence[fx.Node],
    remaining: Remaining,
    addition: Addition,
    sums: dict[int, tuple[fx.Node, fx.Node]],
) -> None:
    """Write one addition into the graph. `sums`: target -> the sum that it has become, and what is added there."""

    def value(i: int) -> fx.Node:
        """What holds the value of call `i` now, with what was added to it."""
        return sums[i][0] if i in sums else copies[i]

    source, target = value(addition.source), copies[addition.target]
    if addition.operand is not None:
        sums.setdefault(addition.target, (target, value(remaining.stands_for[addition.operand])))
    if addition.target not in sums:
        new = _sum(graph, target, source, target)
        target.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new)
        sums[addition.target] = (new, source)
        return
    total, added = sums[addition.target]
    more = _sum(graph, added, source, target)
    total.replace_input_with(added, more)
    sums[addition.target] = (total, more)


def _sum(graph: fx.Graph, a: fx.Node, b: fx.Node, like: fx.Node) -> fx.Node:
    """`a + b` as soon as both are known, of the shape of `like`."""
    order = {node: position for position, node in enumerate(graph.nodes)}
    with graph.inserting_after(max(a, b, key=order.__getitem__)):
        new = graph.call_function(torch.add, (a, b))
    new.meta = {"shape": like.meta["shape"], SKIP: True}
    return new


def _protect_from_changes_in_place(graph: fx.Graph, network: nn.Module) -> None:
    """Copy what a call changes in place where somebody else still needs it, or where it is the caller's."""
    order = {node: position for position, node in enumerate(graph.nodes)}
    for node in list(graph.nodes):
        if not node.all_input_nodes or not changes_in_place(node, network):
            continue
        changed = node.all_input_nodes[0]
        if changed.op == "placeholder" or any(order.get(user, 0) > order[node] for user in changed.users):
            with graph.inserting_before(node):
                copy = graph.call_method("clone", (changed,))
            copy.meta = {"shape": changed.meta.get("shape")}
            node.replace_input_with(changed, copy)
