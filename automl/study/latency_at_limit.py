"""A model of latency scaled to be right where it decides: at the limit.

A model of pieces is fitted to networks of all sizes, and a search has use for those alone that the limit just allows.
An error that all of these share, a few percent, would have every candidate refused by its certificate, or waste as much
of the budget. So a few networks that are predicted to be at the limit are measured, and the model is scaled to them.

Which ones matters: of all networks that take so long a search ends at those that keep much, and what these have in
common (blocks gone, few narrow layers) the model is off by in common. So they are networks that keep the most
multiply-accumulates for the time, each with other weights for the knobs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import numpy as np
from torch import nn

from agents.allocation import Allocator
from automl.config.latency import PREDICTED
from automl.measures.backends.side_by_side import Comparison
from automl.measures.latency import LatencyComparison
from automl.measures.pieces import PieceCost, PieceModel, shapes_of
from automl.types import Say
from search_spaces import NetworkSpace, OfSheet, Point

NETWORKS = 5
"""How many are measured at a time."""
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
    rng, lost = np.random.default_rng(0), _macs_lost(space)
    for _ in range(TURNS):
        priced = copy.copy(space)
        priced.add_cost(PREDICTED, OfSheet(PieceCost(shapes_of(space), model), many=True))
        points = {str(i): point for i, point in enumerate(_at_limit(priced, limit_ms, lost, rng))}
        if not points:
            return model
        networks = {name: space.build(space.plan(point)).eval() for name, point in points.items()}
        times = compare({"original": original, **networks}).times
        predicted = {name: priced.cost(point, PREDICTED) / model.original_ms for name, point in points.items()}
        factor = taken_of_predicted(times, predicted)
        networks_take = (
            f"{len(points)} networks at the limit take" if len(points) > 1 else "a network at the limit takes"
        )
        say(f"{networks_take} at most {factor:.1%} of what was predicted")
        model = model.scaled(factor)
        if abs(factor - 1) < CLOSE:
            break
    return model


def taken_of_predicted(times: Comparison, predicted: Mapping[str, float]) -> float:
    """The geometric mean of what networks take, by the upper ends of their intervals, in parts of what was predicted.

    `predicted`: network -> its part of the time of the first that was timed.
    """
    ends = [times.ratio(name).high / part for name, part in predicted.items()]
    return float(np.exp(np.mean(np.log(ends))))


def _at_limit(
    space: NetworkSpace, limit_ms: float, lost: Mapping[str, np.ndarray], rng: np.random.Generator
) -> list[Point]:
    """Different networks that keep the most multiply-accumulates within the limit; the fastest, if that is just over
    it; none, if all are far from it. `lost`: of `_macs_lost`."""
    fastest = space.point(space.lowest.tolist())
    points = [fastest]
    if space.cost(fastest, PREDICTED) <= limit_ms:
        allocator = Allocator(space, {PREDICTED: limit_ms}, lost)
        weights = [np.ones(len(allocator.knobs)), *(rng.random(len(allocator.knobs)) for _ in range(NETWORKS - 1))]
        points = list(dict.fromkeys(map(allocator.solve, weights)))
    return [point for point in points if abs(space.cost(point, PREDICTED) / limit_ms - 1) <= NEAR]


def _macs_lost(space: NetworkSpace) -> dict[str, np.ndarray]:
    """Knob -> the multiply-accumulates that each of its levels alone takes from the whole network, [n_levels]."""
    lost = {}
    for place, knob in enumerate(space.knobs):
        levels = np.tile(space.highest, (len(knob.levels), 1))
        levels[:, place] = knob.levels
        macs = np.array([space.cost_of_levels(row, "macs") for row in levels])
        lost[knob.name] = np.maximum(macs[-1] - macs, 0.0)
    return lost
