"""How a recorded call changes when channels are gone: bounds, indices and groups that are written into it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from search_spaces.graph.labels import Labelled


class Kept:
    """Which labels remain under one Plan. `removed` holds a truth value for each label: [n_labels]."""

    def __init__(self, removed: np.ndarray) -> None:
        self._removed = removed

    def mask(self, labels: np.ndarray) -> np.ndarray:
        """True where the position remains: [n]."""
        remains: np.ndarray = ~self._removed[labels]
        return remains

    def indices(self, labels: np.ndarray) -> np.ndarray:
        """The positions that remain, ascending: [n_kept]."""
        return np.flatnonzero(self.mask(labels))

    def shrinks(self, labels: np.ndarray) -> bool:
        """Whether any position is gone."""
        return bool(self._removed[labels].any())

    def count(self, labels: np.ndarray) -> int:
        """How many positions remain."""
        return int(self.mask(labels).sum())


Edit = Callable[[fx.Node, Kept], None]
"""Rewrites a node of the graph under construction in place."""


def edit_split(node: fx.Node, kept: Kept, *, parts: Sequence[Labelled], dim: int) -> None:
    """A split or chunk into explicit sizes, since equal parts need not stay equal."""
    sizes = [kept.count(part[dim]) for part in parts]
    node.op, node.target = "call_function", torch.split
    node.args, node.kwargs = (node.args[0], sizes, dim), {}


def one_part_a_dimension(index: Any, n_dims: int) -> tuple[Any, ...]:
    """An index as a tuple with one part for each dimension (None, which adds one, aside): no ellipsis, none missing."""
    parts = list(index) if isinstance(index, tuple) else [index]
    missing = n_dims - sum(part is not None and part is not Ellipsis for part in parts)
    at = next((i for i, part in enumerate(parts) if part is Ellipsis), len(parts))
    return (*parts[:at], *[slice(None)] * missing, *parts[at + 1 :])


def edit_slice(node: fx.Node, kept: Kept, *, labels: Labelled, index: tuple[Any, ...]) -> None:
    """Slices along channels: the same channels, at their new positions. `index` has one part a dimension."""
    parts = list(one_part_a_dimension(node.args[1], len(labels)))
    dim = 0
    for i, part in enumerate(index):
        if part is None:
            continue
        if isinstance(part, slice) and kept.shrinks(labels[dim]):
            parts[i] = _sliced(part, kept.mask(labels[dim]))
        dim += 1
    node.args = (node.args[0], tuple(parts))


def _sliced(part: slice, mask: np.ndarray) -> slice | list[int]:
    """What of the positions that remain, [n] bool, a slice of all of them takes, as a slice where it is one."""
    chosen = np.arange(len(mask))[part]
    if np.array_equal(chosen, np.arange(len(mask))):
        return slice(None)  # without a number: the batch may be part of the dimension, and another one is larger
    positions = (np.cumsum(mask) - 1)[chosen[mask[chosen]]]
    if len(positions) and np.all(np.diff(positions) == 1):
        return slice(int(positions[0]), int(positions[-1]) + 1)
    found: list[int] = positions.tolist()
    return found


def edit_narrow(node: fx.Node, kept: Kept, *, labels: np.ndarray, dim: int, start: int, length: int) -> None:
    """`narrow` along channels."""
    mask = kept.mask(labels)
    node.args = (node.args[0], dim, int(mask[:start].sum()), int(mask[start : start + length].sum()))
    node.kwargs = {}


def edit_pad(node: fx.Node, kept: Kept, *, out: Labelled, before: Sequence[int], after: Sequence[int]) -> None:
    """The amounts padded before and after each dimension, last dimension first as `pad` wants them."""
    amounts: list[Any] = list(node.args[1])  # type: ignore[arg-type]
    for pair, labels in enumerate(reversed(out)):
        if 2 * pair < len(amounts) and kept.shrinks(labels):
            mask = kept.mask(labels)
            left, right = before[len(out) - 1 - pair], after[len(out) - 1 - pair]
            amounts[2 * pair] = int(mask[:left].sum())
            amounts[2 * pair + 1] = int(mask[len(mask) - right :].sum())
    node.args = (node.args[0], tuple(amounts), *node.args[2:])


def edit_index(node: fx.Node, kept: Kept, *, labels: np.ndarray, index: np.ndarray, dim: int) -> None:
    """A constant list of channels: those that remain, at their new positions."""
    mask = kept.mask(labels)
    chosen = index[mask[index]]
    where = (slice(None),) * dim + ((np.cumsum(mask) - 1)[chosen].tolist(),)
    node.op, node.target, node.args, node.kwargs = "call_function", operator.getitem, (node.args[0], where), {}


def edit_scale(node: fx.Node, kept: Kept, *, scale: float) -> None:
    """The scale of an attention, which would be set by the width of the queries."""
    node.kwargs = {**node.kwargs, "scale": scale}


def edit_groups(target: fx.Node | nn.Module, kept: Kept, *, channels: np.ndarray, within: np.ndarray) -> None:
    """The number of groups of a convolution, a layer or a call, from its input channels and those within a group."""
    _set(target, "groups", kept.count(channels) // kept.count(within), position=6)


def edit_norm_groups(target: fx.Node | nn.Module, kept: Kept, *, channels: np.ndarray, per_group: int) -> None:
    """The number of groups of a group norm whose groups go whole."""
    _set(target, "num_groups", kept.count(channels) // per_group, position=1)


def edit_normalized_shape(target: fx.Node | nn.Module, kept: Kept, *, normalized: Labelled) -> None:
    """The shape of the trailing dimensions over which a layer norm normalises."""
    _set(target, "normalized_shape", tuple(kept.count(labels) for labels in normalized), position=1)


def _set(target: fx.Node | nn.Module, name: str, value: Any, position: int) -> None:
    """Set an attribute of a layer, or the argument of a call that has it at `position`."""
    if isinstance(target, nn.Module):
        setattr(target, name, value)
    elif len(target.args) > position:
        target.args = (*target.args[:position], value, *target.args[position + 1 :])
    else:
        target.kwargs = {**target.kwargs, name: value}
