"""How well a model of pieces predicts networks that it has not seen.

python -m experiments.latency.predictor CHECKPOINTS [--network resnet20] [--backend onnxruntime] [--unseen 20]
    [--rows FILE]

A model is measured for the space of channels, depth and rank, of which only widths and ranks remain that save time, as
in a study; then random networks of it are exported and timed beside the original. Mean relative error, Kendall's tau.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from scipy.stats import kendalltau

from automl.config.latency import LatencyOptions
from automl.export.chains import chain_runner
from automl.export.timing import ComparerOnBackend
from automl.measures.fast_ranks import fast_shares
from automl.measures.piece_times import drawn as random_levels
from automl.measures.piece_times import measure_pieces, measured_grids
from automl.measures.pieces import PieceCost, features_of, layers_of, shapes_of
from automl.study.fast_shapes import held_to_shares, held_to_widths, measured_widths
from automl.study.latency_cost import EFFORT
from automl.zoo import create
from search_spaces import NetworkSpace, Plan
from search_spaces.operators.options import OPTIONS, Options


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoints", type=Path)
    parser.add_argument("--network", default="resnet20")
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--unseen", type=int, default=20)
    parser.add_argument("--operators", nargs="+", default=["channels", "depth", "rank"])
    parser.add_argument("--rows", type=Path, help="a JSON line a network: its levels, features, and both ratios")
    args = parser.parse_args()
    torch.manual_seed(0)
    network = create(args.network)
    weights = args.checkpoints / f"{args.network}-cifar10.safetensors"
    if weights.exists():
        network.load_state_dict(load_file(weights))
    inputs, options = (torch.randn(2, 3, 32, 32),), LatencyOptions(batch=args.batch)
    operators: dict[str, Options] = {name: OPTIONS[name]() for name in args.operators}
    compare = ComparerOnBackend(args.backend, (torch.randn(args.batch, 3, 32, 32),), 1, EFFORT)
    start = time.perf_counter()
    make = chain_runner(args.backend, args.batch, 1)
    widths = measured_widths(network.eval(), inputs, operators, options, args.backend, print)
    operators = held_to_widths(operators, widths, args.backend)
    space = NetworkSpace(network, inputs, operators)
    grids = measured_grids(space, options, make, print)
    shares = fast_shares(space, grids)
    print(f"widths {widths}, largest shares of rank that save time {shares or 'all'}")
    if "rank" in operators:
        space = NetworkSpace(network, inputs, held_to_shares(operators, shares, args.backend))
    original = space.build(Plan()).eval()
    model = measure_pieces(space, original, options, make, compare, print, grids)
    spent, cost, rng = time.perf_counter() - start, PieceCost(shapes_of(space), model), np.random.default_rng(1)
    drawn = [random_levels(space, rng) for _ in range(args.unseen)]
    networks = {str(i): space.build(space.plan(space.point(levels.tolist()))).eval() for i, levels in enumerate(drawn)}
    compared = compare({"original": original, **networks})
    real = np.array([compared.ratio(name).value for name in networks])
    predicted = np.array([cost(space.sheet(levels)) for levels in drawn]) / model.original_ms
    start = time.perf_counter()
    for levels in drawn:
        cost(space.sheet(levels))
    per_cost = (time.perf_counter() - start) / len(drawn) * 1e3
    if args.rows is not None:
        features = [features_of(layers_of(shapes_of(space), space.sheet(levels)), model.grids) for levels in drawn]
        columns = zip(drawn, features, predicted, real, strict=True)
        told = [{"levels": a.tolist(), "features": b.tolist(), "predicted": c, "real": d} for a, b, c, d in columns]
        args.rows.write_text("".join(json.dumps(row) + "\n" for row in told))
    error, tau = np.abs(predicted / real - 1), kendalltau(predicted, real).statistic
    print(f"{args.network}, {args.backend}, batch {args.batch}: model in {spent:.0f} s ({len(model.grids)} shapes)")
    print(f"weights {[round(w, 4) for w in model.weights]}, held out {model.held_out:.1%}")
    print(f"a cost takes {per_cost:.2f} ms")
    print(f"{args.unseen} unseen networks of {real.min():.2f} to {real.max():.2f} of the original: mean error")
    print(f"{error.mean():.1%}, worst {error.max():.1%}, tau {tau:.2f}")
    print(f"half the interval of a ratio up to {compared.times.half_width:.1%}")


if __name__ == "__main__":
    main()
