"""Where a recorded network can be cut in two, and so can end early: where one value is all that goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from torch import fx

from automl.errors import ConfigError
from automl.fit.segments import Segment, bridges, segment
from search_spaces import Recorded
from search_spaces.graph.counting import MACS
from search_spaces.graph.labels import movable

LATEST = 0.95
"""The part of the multiply-accumulates after which an exit saves nothing."""


@dataclass(frozen=True)
class Place:
    """A value of a recorded network that an exit can read."""

    node: str
    """What makes it."""
    share: float
    """The part of the network's multiply-accumulates that come before, in (0, 1)."""
    dim: int
    """Along which dimension its channels lie."""
    channels: int


def places(recorded: Recorded) -> tuple[Place, ...]:
    """Every place for an exit, in order: of several with no layer between them the last."""
    network = recorded.network
    total = sum(node.meta.get(MACS, 0) for node in network.graph.nodes)
    found: dict[float, Place] = {}
    ends = set(bridges(network))
    done = 0
    for node in network.graph.nodes:
        done += node.meta.get(MACS, 0)
        shape, share = node.meta.get("shape"), done / max(total, 1)
        if node in ends and isinstance(shape, tuple) and len(shape) > 1 and 0 < share < LATEST:
            dim = _channels_along(recorded, node)
            found[share] = Place(node.name, share, dim, shape[dim])
    return tuple(found.values())


def _channels_along(recorded: Recorded, node: fx.Node) -> int:
    """The dimension of a value along which channels lie: the one that layers can be narrowed in, else that of maps."""
    labels = recorded.labelled(node.name) or ()
    narrowed = [dim for dim, along in enumerate(labels) if dim and movable(np.asarray(along))]
    if len(narrowed) == 1:
        return narrowed[0]
    return len(node.meta["shape"]) - 1 if len(node.meta["shape"]) == 3 else 1


def chosen(recorded: Recorded, exits: int | Sequence[float | str]) -> tuple[Place, ...]:
    """The places for so many exits, spread evenly over the multiply-accumulates; or those nearest to the shares, or of
    the nodes, that are named. Errors: `ConfigError`."""
    known = places(recorded)
    if not known:
        raise ConfigError("the network has no place for an exit: nowhere is one value all that goes on")
    wanted = [(i + 1) / (exits + 1) for i in range(exits)] if isinstance(exits, int) else list(exits)
    picked = {_picked(known, one) for one in wanted}
    if not picked or len(picked) < len(wanted):
        shown = ", ".join(f"{place.node} ({place.share:.0%})" for place in known)
        raise ConfigError(f"expected exits at places of their own, got {exits!r}. There are {shown}")
    return tuple(place for place in known if place in picked)


def _picked(known: Sequence[Place], wanted: float | str) -> Place:
    if isinstance(wanted, str):
        for place in known:
            if place.node == wanted:
                return place
        shown = ", ".join(f"{place.node} ({place.share:.0%})" for place in known)
        raise ConfigError(f"no exit can be at {wanted!r}: there are {shown}")
    return min(known, key=lambda place: abs(place.share - wanted))


@dataclass(frozen=True)
class Part:
    """A part of a network as a module of its own."""

    network: fx.GraphModule
    """It takes the value that goes on, if there is a part before it, then what it needs of the network's inputs."""
    inputs: tuple[int, ...]
    """Which of those, by their place among all."""


def parts(network: fx.GraphModule, ends: Sequence[str]) -> list[Part]:
    """`network` from its inputs to the first of the nodes `ends`, from there to the next, and so on to its output.

    The parts share its modules. A network whose output is not one tensor is a `ConfigError`.
    """
    nodes = {node.name: node for node in network.graph.nodes}
    (output,) = (node for node in nodes.values() if node.op == "output")
    if not isinstance(output.args[0], fx.Node):
        raise ConfigError(f"exits are for networks with one tensor as output, got {type(output.args[0]).__name__}")
    if missing := [name for name in ends if name not in nodes]:
        raise ConfigError(f"no exit can be at {missing[0]!r}: the network's graph has no such node")
    inputs = [node.name for node in nodes.values() if node.op == "placeholder"]
    stops = [None, *(nodes[name] for name in ends), output.args[0]]
    found = []
    for start, end in pairwise(stops):
        assert end is not None
        piece = segment(network, start, end)
        asked = [node for node in piece.given if node is not start]
        found.append(Part(_module(network, piece), tuple(inputs.index(node.name) for node in asked)))
    return found


def _module(network: fx.GraphModule, piece: Segment) -> fx.GraphModule:
    """A segment as a module."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in piece.given:
        copies[node] = graph.placeholder(node.name)
    for node in piece.nodes:
        copies[node] = graph.node_copy(node, lambda old: copies[old])
    graph.output(copies[piece.nodes[-1]])
    return fx.GraphModule(network, graph, class_name="Part")
