"""Coupled groups: the channels that can be removed independently of each other, but at the same cost each."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from search_spaces.graph.analysis import Analysis
from search_spaces.graph.labels import FIXED


@dataclass(frozen=True)
class Member:
    """What the channels of a group own in one dimension of one parameter or buffer."""

    parameter: str
    dim: int
    indices: np.ndarray
    """Channel j owns the entries `indices[j]` along `dim`: [size, entries a channel]."""
    role: str
    """"in" where a convolution or linear layer reads them, "out" where it makes them, else "along"."""


@dataclass(frozen=True)
class Group:
    """Coupled channels, the atom of structural change: each can go, with all that belongs to it."""

    name: str
    """The layer that makes them, the first one if several do."""
    size: int
    layers: tuple[str, ...]
    """All layers that make them."""
    members: tuple[Member, ...]
    roots: tuple[int, ...]
    """The label of each channel in the analysis."""


@dataclass(frozen=True)
class Fixed:
    """Channels that stay as they are, and why."""

    name: str
    channels: int
    reason: str


def find_groups(analysis: Analysis) -> tuple[Group, ...]:
    """The coupled groups, in the order in which the network makes their channels.

    Channels are in one group if they own as many entries of the same dimensions everywhere, so that any of them
    costs what any other costs, in every measure.
    """
    owned: dict[int, list[tuple[str, int, np.ndarray]]] = defaultdict(list)
    for name, labels in analysis.state.items():
        for dim, along in enumerate(labels):
            roots = analysis.labels.roots(along)
            for root in np.unique(roots[roots != FIXED]):
                owned[int(root)].append((name, dim, np.flatnonzero(roots == root)))
    activations = _activation_counts(analysis)

    alike: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for root, entries in owned.items():
        signature = tuple((name, dim, len(positions)) for name, dim, positions in entries)
        alike[signature, activations.get(root, ())].append(root)

    groups = []
    for members in alike.values():
        group = _group(analysis, members, [owned[root] for root in members])
        if group is not None:
            groups.append(group)
    groups.sort(key=lambda group: min(analysis.order[member.parameter] for member in group.members))
    return _distinct_names(groups)


def _activation_counts(analysis: Analysis) -> dict[int, tuple[tuple[int, int], ...]]:
    """Root -> how many positions it has along each dimension that enters a cost."""
    counts: dict[int, list[tuple[int, int]]] = defaultdict(list)
    seen: dict[bytes, int] = {}
    for _, _, dims in analysis.terms:
        for along in dims:
            roots = analysis.labels.roots(along)
            number = seen.setdefault(roots.tobytes(), len(seen))
            for root, n in zip(*np.unique(roots[roots != FIXED], return_counts=True), strict=True):
                if (number, int(n)) not in counts[int(root)]:
                    counts[int(root)].append((number, int(n)))
    return {root: tuple(items) for root, items in counts.items()}


def _group(analysis: Analysis, roots: list[int], owned: list[list[tuple[str, int, np.ndarray]]]) -> Group | None:
    """The channels `roots` as a group; None if there is one only, or no layer makes them."""
    if len(roots) < 2:
        return None
    members = tuple(
        Member(name, dim, np.stack([entries[i][2] for entries in owned]), analysis.roles.get((name, dim), "along"))
        for i, (name, dim, _) in enumerate(owned[0])
    )
    makers = sorted(
        {member.parameter for member in members if member.role == "out"}, key=lambda name: analysis.order[name]
    )
    if not makers:
        return None
    layers = tuple(name.rpartition(".")[0] or name for name in makers)
    return Group(layers[0], len(roots), layers, members, tuple(roots))


def _distinct_names(groups: list[Group]) -> tuple[Group, ...]:
    """Groups whose channels are made by the same layer are numbered: `conv`, `conv#2`, ..."""
    times: dict[str, int] = defaultdict(int)
    out = []
    for group in groups:
        times[group.name] += 1
        number = times[group.name]
        name = group.name if number == 1 else f"{group.name}#{number}"
        out.append(Group(name, group.size, group.layers, group.members, group.roots))
    return tuple(out)


def find_fixed(analysis: Analysis, groups: tuple[Group, ...]) -> tuple[Fixed, ...]:
    """For each layer, how many of the channels it makes must stay, and the first reason."""
    free = {root for group in groups for root in group.roots}
    out = []
    for (name, dim), role in analysis.roles.items():
        if role != "out":
            continue
        along = analysis.state[name][dim]
        stuck = [label for label, root in zip(along, analysis.labels.roots(along), strict=True) if root not in free]
        if stuck:
            reason = analysis.labels.reason(int(stuck[0])) or "all its channels can only be removed together"
            out.append(Fixed(name.rpartition(".")[0] or name, len(stuck), reason))
    return tuple(out)
