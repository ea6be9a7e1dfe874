"""The ranks at which a layer's factors are faster than the layer, by the measured times of both.

Two layers in a row with few multiply-accumulates often take longer than the one that they stand for: always in 8-bit
integers on narrow layers, where each has its ends. A share of rank that saves no time only loses accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from automl.measures.fast_widths import EVERY
from automl.measures.piece_times import drawn
from automl.measures.pieces import Grid, Shape, layers_of, shapes_of
from search_spaces import NetworkSpace, Rank

DRAWN = 20
"""Random networks of the space over which a layer's times are averaged, as its widths differ, beside the original."""


def fast_shares(space: NetworkSpace, grids: Mapping[Shape, Grid]) -> dict[str, float]:
    """Find for each layer of the operator `rank` the largest share up to which its factors are faster than the whole.

    Layer -> that share, 0 where factors of every rank are as slow; `EVERY` alone -> 0 if that is so of all layers.
    Those that are faster at all shares have no entry.
    """
    if not space.has(Rank):
        return {}
    rank, shapes, rng = space.operator(Rank), shapes_of(space), np.random.default_rng(0)
    names = [knob.name for knob in space.knobs]
    places = [names.index(knob.name) for knob in rank.knobs]
    shares = sorted({level for knob in rank.knobs for level in knob.levels[:-1]})
    saved = np.zeros((len(shares), len(shapes)))
    for levels in (space.original_levels, *(drawn(space, rng) for _ in range(DRAWN))):
        for row, share in zip(saved, shares, strict=True):
            levels[places] = share
            for layer in layers_of(shapes, space.sheet(levels)):
                factors, whole = layer.times_ms(grids)
                row[layer.site] += whole - factors
    found = {}
    for knob, gains in zip(rank.knobs, saved[:, rank.sites].T, strict=True):
        fast = [gains[shares.index(level)] > 0 for level in knob.levels[:-1]]
        if not all(fast):
            count = fast.index(False)
            found[knob.name.removeprefix("rank:")] = knob.levels[count - 1] / knob.size if count else 0.0
    return {EVERY: 0.0} if len(found) == len(rank.knobs) and not any(found.values()) else found
