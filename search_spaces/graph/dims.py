"""Dimensions that are merged into one, and one that is split into several: where its labels go.

One of several dimensions keeps its labels, so that what remains is a block again. Two may where they are a grid: the
heads of an attention, and the width of each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search_spaces.graph.call import Call
from search_spaces.graph.labels import Labelled, fixed, movable


def merged_dims(call: Call, dims: Labelled) -> np.ndarray:
    """Several dimensions as one, row-major: that of the one that has labels, or a grid of two."""
    sizes = [len(labels) for labels in dims]
    live = [d for d, labels in enumerate(dims) if movable(labels)]
    if len(live) > 1:
        for d in [d for d in live if call.labels.loose(dims[d])]:
            call.fix(dims[d], "is a copy among others")
            live.remove(d)
    if len(live) == 2 and call.may_be_grid:
        grid = call.labels.product(dims[live[0]], dims[live[1]])
        shape = [sizes[d] if d in live else 1 for d in range(len(sizes))]
        call.is_grid(dims[live[0]], dims[live[1]])
        return np.broadcast_to(grid.reshape(shape), sizes).reshape(-1)
    if len(live) > 1:
        for d in live:
            call.fix(dims[d], "is merged with another prunable dimension")
    if len(live) != 1:
        return fixed(int(np.prod(sizes)))
    shape = [1] * len(sizes)
    shape[live[0]] = -1
    return np.broadcast_to(dims[live[0]].reshape(shape), sizes).reshape(-1)


def split_dims(call: Call, flat: np.ndarray, sizes: Sequence[int], *, last: bool) -> list[np.ndarray]:
    """One dimension as several. `last`: whether it is the last one of the tensor.

    If the labels vary along one dimension only (channels flattened with their pixels, and back), it is that one that
    carries them. The last dimension, as linear layers make it, becomes a grid of two, and so does any that is split
    into three or more, as queries, keys and values are. Otherwise it is the longest, and positions along the others are
    tied, as in a channel shuffle.
    """
    out = [fixed(size) for size in sizes]
    live = [d for d, size in enumerate(sizes) if size > 1]
    if not movable(flat) or not live:
        return out
    labels, places = np.unique(flat, return_inverse=True)
    roots = np.array([call.labels.root(int(label)) for label in labels])[places].reshape(sizes)
    free = [d for d in live if np.all(_along(roots, d) == _along(roots, d)[:, :1])]
    if free or len(live) == 1:
        chosen = max(free or live, key=lambda d: (sizes[d], d))
        out[chosen] = _tied(call, flat.reshape(sizes), chosen)
        return out
    known = _known_grid(call, roots)
    if known is not None:
        return [known.get(d, labels) for d, labels in enumerate(out)]
    if call.may_be_grid and (last or len(live) > 2):
        outer, inner = _axes(sizes, live)
        out[outer], out[inner] = call.labels.fresh(sizes[outer]), call.labels.fresh(sizes[inner])
        shape = [size if d in (outer, inner) else 1 for d, size in enumerate(sizes)]
        grid = call.labels.product(out[outer], out[inner]).reshape(shape)
        call.is_grid(out[outer], out[inner])
        call.tie(np.broadcast_to(grid, sizes).ravel(), flat, "is a place in the grid of")
        return out
    chosen = max(live, key=lambda d: (sizes[d], d))
    out[chosen] = _tied(call, flat.reshape(sizes), chosen)
    return out


def _along(values: np.ndarray, d: int) -> np.ndarray:
    """[size of dimension d, all the rest]."""
    return np.moveaxis(values, d, 0).reshape(values.shape[d], -1)


def _tied(call: Call, block: np.ndarray, d: int) -> np.ndarray:
    """The labels along dimension `d`, with the positions along the others tied."""
    columns = _along(block, d)
    call.tie(np.broadcast_to(columns[:, :1], columns.shape).ravel(), columns.ravel(), "is split regularly")
    first: np.ndarray = columns[:, 0]
    return first


def _known_grid(call: Call, roots: np.ndarray) -> dict[int, np.ndarray] | None:
    """Dimension -> labels, where the positions are those of a grid that was merged before."""
    distinct, places = np.unique(roots, return_inverse=True)
    pairs = [call.labels.pair(root) for root in distinct.tolist()]
    if any(pair is None for pair in pairs):
        return None
    out: dict[int, np.ndarray] = {}
    for part in range(2):
        values = np.array([pair[part] for pair in pairs if pair is not None])[places].reshape(roots.shape)
        free = [d for d, n in enumerate(roots.shape) if n > 1 and np.all(_along(values, d) == _along(values, d)[:, :1])]
        if len(free) != 1 or free[0] in out:
            return None
        out[free[0]] = _along(values, free[0])[:, 0]
    return out


def _axes(sizes: Sequence[int], live: Sequence[int]) -> tuple[int, int]:
    """The two dimensions of a grid: the last two, where that of queries, keys and values is left aside."""
    axes = list(live)
    for aside in (3, 2):
        for d in live:
            if len(axes) > 2 and sizes[d] == aside:
                axes.remove(d)
    return axes[-2], axes[-1]
