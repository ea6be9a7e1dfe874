"""Have an agent propose trials of which made-up values are told, and time what it does.

    python experiments/proposals/play.py SPACE AGENT [--trials 30]

Nothing is trained: a trial is worth less for all that its knobs lose by made-up error curves, which agents that use
such are given too. Prints one line of JSON: seconds of processor time in the agent, without those that it takes to make
it and those to make the space, and a digest of all Points proposed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from typing import Any

import numpy as np
import torch

from agents import ErrorCurves, Goal, Trial, TrialState, create
from automl.config.latency import PREDICTED, LatencyOptions
from automl.measures.pieces import Grid, PieceCost, PieceModel, layers_of, shapes_of
from automl.zoo import create as network
from search_spaces import NetworkSpace, OfSheet, Point, pyramid
from search_spaces.cells.architecture import Frame
from search_spaces.cells.cells_options import CellsOptions

JOINT: dict[str, Any] = {"depth": {}, "channels": {"min_keep": 0.2}, "rank": {}, "code": {}}
LIMITS = {
    "macs": {"macs": 0.4},
    "size": {"size_bytes": 0.125},
    "latency": {PREDICTED: 0.6},
    "cells": {"macs": 0.3, "params": 0.3},
}
"""Space -> the part of the original's costs, or of cells of the reference's, that is allowed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("space", choices=LIMITS)
    parser.add_argument("agent")
    parser.add_argument("--trials", type=int, default=30)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps(played(args.space, args.agent, args.trials)))


def played(name: str, agent: str, trials: int, seed: int = 0) -> dict[str, Any]:
    """What the agent took, and what it proposed."""
    torch.manual_seed(0)
    space = made(name)
    whole = {metric: space.original_cost(metric) for metric in LIMITS[name]}
    limits = {metric: part * whole[metric] for metric, part in LIMITS[name].items()}
    curves = curves_of(space)
    start = time.process_time()
    known = None if name == "cells" else curves  # architectures have none
    player = create(
        agent, space=space, goal=Goal("loss", "minimize"), limits=limits, seed=seed, trials=trials, sensitivity=known
    )
    ready = time.process_time()
    points: list[Point] = []
    for number in range(trials):
        proposed = player.ask(1, [])
        if not proposed:
            break
        points += proposed
        loss = sum(curves[k.name][k.levels.index(proposed[0][k.name])] for k in space.knobs)
        player.tell([Trial(number, proposed[0], TrialState.DONE, {"loss": float(loss)})])
    ended = time.process_time()
    digest = hashlib.sha256(" ".join(point.key for point in points).encode()).hexdigest()[:12]
    return {"made_s": ready - start, "played_s": ended - ready, "trials": len(points), "digest": digest}


def made(name: str) -> Any:
    """The space: of ResNet-56 for images of CIFAR-10, or of cells for them."""
    if name == "cells":
        return pyramid(CellsOptions(), Frame())
    space = NetworkSpace(network("resnet56"), (torch.zeros(2, 3, 32, 32),), JOINT)
    if name == "latency":
        many = {"many": True} if "many" in OfSheet.__dataclass_fields__ else {}  # earlier commits price one at a time
        space.add_cost(PREDICTED, OfSheet(PieceCost(shapes_of(space), made_up_model(space)), **many))
    return space


def made_up_model(space: NetworkSpace) -> PieceModel:
    """A model of pieces whose times were not measured: they grow with what is read and what is made."""
    rng, shapes = np.random.default_rng(0), shapes_of(space)
    every = [space.original_levels, *(np.array([int(rng.choice(k.levels)) for k in space.knobs]) for _ in range(200))]
    layers = [layer for levels in every for layer in layers_of(shapes, space.sheet(levels))]
    widths = np.linspace(1.0, 300.0, 5)
    grids = {}
    for shape in sorted({shape for layer in layers for shape, *_ in (*layer.pieces, layer.whole)}):
        macs = shape.kernel[0] * shape.kernel[1] * max(shape.height, 1) * shape.width * np.outer(widths, widths)
        grids[shape] = Grid(tuple(widths), tuple(widths), tuple(map(tuple, (1e-3 + 1e-8 * macs).tolist())))
    return PieceModel(1.0, grids, (1.0, 1e-3, 1e-3, 1e-2), 1.0, 0.0, "made up", LatencyOptions())


def curves_of(space: Any) -> ErrorCurves:
    """What each knob loses at each of its levels, and that factors make the rounding of their weights dearer."""
    rng = np.random.default_rng(1)
    curves = {}
    for knob in space.knobs:
        keeps = np.array([knob.keep(level) for level in knob.levels])
        curves[knob.name] = rng.gamma(1.0) * (1.0 - keeps) ** 2
        if knob.kind in ("choice", "free"):
            curves[knob.name] = rng.random(len(keeps))
    names = [knob.name for knob in space.knobs]
    ranks = [name.removeprefix("rank:") for name in names if name.startswith("rank:")]
    dearer = {(f"rank:{layer}", f"code:{layer}"): 1.5 for layer in ranks if f"code:{layer}" in names}
    return ErrorCurves(curves, dearer)


if __name__ == "__main__":
    main()
