"""A model of latency scaled to be right where it decides: at the limit.

A model of pieces is fitted to networks of all sizes, and a search has use for those alone that the limit just allows.
An error that all of these share, a few percent, would have every candidate refused by its certificate, or waste as much
of the budget. So a few networks that are predicted to be about at the limit are measured, and the model is scaled to
them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from torch import nn

from automl.measures.latency import LatencyComparison
from automl.measures.piece_times import drawn
from automl.measures.pieces import PieceCost, PieceModel, shapes_of
from automl.types import Say
from search_spaces import NetworkSpace

NETWORKS = 3
"""How many are measured at a time."""
DRAWN = 400
"""Random choices, of which those nearest to the limit are measured."""
NEAR = 0.15
"""A network farther from the limit than this part of it says nothing about it."""
TURNS, CLOSE = 2, 0.03
"""So often at most the model is scaled: a scaled one has other networks at the limit, unless it has changed by less."""


def scaled_at_limit(
    model: PieceModel,
    space: NetworkSpace,
    original: nn.Module,
    limit_ms: float,
    compare: Callable[[Mapping[str, nn.Module]], LatencyComparison],
    say: Say,
) -> PieceModel:
    """`model`, scaled so that networks predicted at `limit_ms` have the upper ends of their intervals there.

    By the upper end of the 95 % interval, because a certificate goes by that. Where no network of the space is near the
    limit, the model stays as it is. `compare`: times networks, the first as it is in float32.
    """
    rng = np.random.default_rng(0)
    levels = [space.lowest, *(drawn(space, rng) for _ in range(DRAWN))]
    predicted = _predicted(model, space, levels)
    for _ in range(TURNS):
        apart = np.abs(predicted / limit_ms - 1)
        chosen = [int(i) for i in np.argsort(apart, kind="stable")[:NETWORKS] if apart[i] <= NEAR]
        if not chosen:
            return model
        networks = {str(i): space.build(space.plan(space.point(levels[i].tolist()))).eval() for i in chosen}
        times = compare({"original": original, **networks}).times
        ends = [times.ratio(str(i)).high * model.original_ms / predicted[i] for i in chosen]
        factor = float(np.exp(np.mean(np.log(ends))))
        say(f"{len(chosen)} networks at the limit take at most {factor:.1%} of what was predicted")
        model, predicted = replace(model, scale=model.scale * factor), predicted * factor
        if abs(factor - 1) < CLOSE:
            break
    return model


def _predicted(model: PieceModel, space: NetworkSpace, levels: list[np.ndarray]) -> np.ndarray:
    """What the networks at `levels`, n times [n_knobs], are predicted to take, in ms: [n]."""
    cost = PieceCost(shapes_of(space), model)
    return np.array([cost(space.sheet(each)) for each in levels])
