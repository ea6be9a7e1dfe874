"""Coupled groups: the channels that can be removed independently of each other, but at the same cost each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from search_spaces.graph.analysis import Analysis
from search_spaces.graph.labels import FIXED

HEADS = ":heads"
"""What the name of a group ends in each of whose channels is a head of an attention, with all its width."""


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
    heads: set[int] = set()
    for name, labels in analysis.state.items():
        for dim, along in enumerate(labels):
            parts = analysis.labels.parts(along)
            heads |= set(parts[parts[:, 1] != FIXED, 0].tolist())
            for root, positions in _positions(parts):
                owned[root].append((name, dim, positions))
    activations = _activation_counts(analysis)

    alike: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for root, entries in owned.items():
        signature = tuple((name, dim, len(positions)) for name, dim, positions in entries)
        alike[signature, activations.get(root, ())].append(root)

    groups = []
    for members in alike.values():
        group = _group(analysis, members, [owned[root] for root in members], HEADS if members[0] in heads else "")
        if group is not None:
            groups.append(group)
    groups.sort(key=lambda group: min(analysis.order[member.parameter] for member in group.members))
    return _distinct_names(groups)


def _positions(parts: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each root in `parts`, [n, 2], that can go, and the positions that go with it, ascending: [n_owned]."""
    flat = parts.ravel()
    order = np.argsort(flat, kind="stable")
    roots, starts = np.unique(flat[order], return_index=True)
    for root, places in zip(roots.tolist(), np.split(order, starts[1:]), strict=True):
        if root != FIXED:
            yield root, places // 2


def _activation_counts(analysis: Analysis) -> dict[int, tuple[tuple[int, int], ...]]:
    """Root -> how many positions it has along each dimension that enters a cost."""
    counts: dict[int, list[tuple[int, int]]] = defaultdict(list)
    seen: dict[bytes, int] = {}
    for _, _, dims in analysis.terms:
        for along in dims:
            parts = analysis.labels.parts(along)
            number = seen.setdefault(parts.tobytes(), len(seen))
            for root, n in zip(*np.unique(parts[parts != FIXED], return_counts=True), strict=True):
                if (number, int(n)) not in counts[int(root)]:
                    counts[int(root)].append((number, int(n)))
    return {root: tuple(items) for root, items in counts.items()}


def _group(
    analysis: Analysis, roots: list[int], owned: list[list[tuple[str, int, np.ndarray]]], mark: str
) -> Group | None:
    """The channels `roots` as a group, `mark` behind its name; None if there is one only, or no layer makes them."""
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
    return Group(f"{layers[0]}{mark}", len(roots), layers, members, tuple(roots))


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
        parts = analysis.labels.parts(along)
        stuck = [label for label, both in zip(along, parts.tolist(), strict=True) if free.isdisjoint(both)]
        if stuck:
            reason = analysis.labels.reason(int(stuck[0])) or "all its channels can only be removed together"
            out.append(Fixed(name.rpartition(".")[0] or name, len(stuck), reason))
    return tuple(out)
