"""What a recorded network does otherwise while it trains: arguments that `self.training` decides.

A network is recorded in evaluation. Layers that are recorded as one call know by themselves whether they train; a
function, as in `dropout(x, p, training=self.training)`, is given the answer as an argument. So the forward is recorded
once more in training, and where the same call got another number, a switch is put in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any

from torch import fx, nn

SWITCH = "_while_training"
"""The name of the switch among a recorded network's modules."""


class WhileTraining(nn.Module):
    """Gives one value while the network trains, another while it does not."""

    def forward(self, training: Any, evaluation: Any) -> Any:
        """The one that applies."""
        return training if self.training else evaluation


def add_switches(graph: fx.Graph, training: fx.Graph) -> bool:
    """Let `graph`, recorded in evaluation, decide while it runs what the recording in `training` had otherwise.

    Arguments only: calls that are made in training alone are left out. Returns whether there is any switch.
    """
    found = False
    for node, other in _alike(list(graph.nodes), list(training.nodes)):
        new_args = _switched(graph, node, node.args, other.args)
        new_kwargs = _switched(graph, node, node.kwargs, other.kwargs)
        found = found or new_args is not node.args or new_kwargs is not node.kwargs
        node.args, node.kwargs = new_args, new_kwargs
    return found


def _alike(nodes: Sequence[fx.Node], others: Sequence[fx.Node]) -> list[tuple[fx.Node, fx.Node]]:
    """The calls that both recordings made."""
    keys, other_keys = ([(node.op, str(node.target)) for node in graph] for graph in (nodes, others))
    matcher = SequenceMatcher(None, keys, other_keys, autojunk=False)
    return [
        (nodes[a + i], others[b + i])
        for a, b, size in matcher.get_matching_blocks()
        for i in range(size)
        if nodes[a + i].op in ("call_function", "call_method")
    ]


def _switched(graph: fx.Graph, node: fx.Node, mine: Any, other: Any) -> Any:
    """`mine`, with a switch wherever `other` has another number or truth value; itself if there is none."""
    if isinstance(mine, (tuple, list)) and isinstance(other, (tuple, list)) and len(mine) == len(other):
        items = [_switched(graph, node, a, b) for a, b in zip(mine, other, strict=True)]
        return mine if all(a is b for a, b in zip(items, mine, strict=True)) else type(mine)(items)
    if isinstance(mine, dict) and isinstance(other, dict) and mine.keys() == other.keys():
        named = {key: _switched(graph, node, mine[key], other[key]) for key in mine}
        return mine if all(named[key] is mine[key] for key in mine) else named
    plain = (bool, int, float)
    if type(mine) in plain and type(other) in plain and mine != other:
        with graph.inserting_before(node):
            return graph.call_module(SWITCH, (other, mine))
    return mine
