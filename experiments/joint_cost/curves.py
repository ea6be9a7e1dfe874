"""What the error curves of a network take, and a trial of a joint space beside one of channels alone.

    python -m experiments.joint_cost.curves --data-root DATA --weights WEIGHTS.safetensors [--network resnet56]

Seconds of processor time on one thread. Curves: of each operator alone, what is gathered before them included, and of
depth, channels, ranks and code together, which are brought into one unit by measured networks. Trials: of random
Points, one of channels at half the multiply-accumulates, then one of all operators of each kind in `KINDS`, and so on:
the median of the ratios to the trial of channels before it; nothing ends early. `--no-curves` makes trials alone.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from automl.config.study import StudyConfig
from automl.study.setup import Setup
from search_spaces import CodeStep, NetworkSpace, Point, RankStep

SPACES: dict[str, dict[str, Any]] = {
    "channels": {"channels": {"min_keep": 0.2}},
    "rank (column and row)": {"rank": {}},
    "rank (cp)": {"rank": {"scheme": "cp"}},
    "sparsity": {"sparsity": {"min_keep": 0.2}},
    "code (int4, int8)": {"code": {}},
    "code (coded1.25 to coded4)": {
        "code": {"formats": ["coded1.25", "coded1.5", "coded1.75", "coded2", "coded2.5", "coded4"]}
    },
    "depth, channels, rank, code": {"depth": {}, "channels": {"min_keep": 0.2}, "rank": {}, "code": {}},
}


JOINT = "depth, channels, rank, code"
KINDS = ("half the MACs", "an eighth of the bytes", "half the MACs, every operator at work")
"""Of joint Points. A budget of MACs alone leaves formats alone and most layers whole. In the last kind channels keep
more than ranks do, and each layer has one of its formats at random."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--network", default="resnet56")
    parser.add_argument("--spaces", nargs="+", default=list(SPACES), choices=list(SPACES))
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--no-curves", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    setups = {}
    for name in arguments.spaces:
        config = {
            "name": "curves",
            "model": {"name": arguments.network, "weights": str(arguments.weights)},
            "data": {"name": "cifar10", "root": arguments.data_root, "validation_size": 1000, "calibration_size": 512},
            "space": SPACES[name],
            "budget": "macs <= 90%" if "code" not in SPACES[name] else "size <= 90%",
            "objective": "divergence",
            "evaluation": {"race": 0},
            "runner": {"threads": 1},
        }
        setup = setups[name] = Setup(StudyConfig.from_dict(config))
        started = time.process_time()
        setup.evaluator.prepare()
        prepared = time.process_time()
        if not arguments.no_curves:
            setup.evaluator.sensitivity()
        ended = time.process_time()
        print(f"{name}: gathered in {prepared - started:.1f} s, curves in {ended - prepared:.1f} s", flush=True)
    if {"channels", JOINT} <= setups.keys() and arguments.trials:
        _trials(setups["channels"], setups[JOINT], arguments.trials)


def _trials(channels: Setup, joint: Setup, count: int) -> None:
    rng = np.random.default_rng(0)
    alone: list[float] = []
    together: dict[str, list[float]] = {kind: [] for kind in KINDS}
    sizes: dict[str, list[tuple[float, int, int]]] = {kind: [] for kind in KINDS}
    for _ in range(count):
        alone.append(_seconds(channels, _point(_space(channels), KINDS[0], rng)))
        for kind in KINDS:
            point = _point(_space(joint), kind, rng)
            together[kind].append(_seconds(joint, point))
            sizes[kind].append(_size(_space(joint), point))
    print(f"a trial of channels: {statistics.median(alone):.2f} s")
    for kind in KINDS:
        ratio = statistics.median(both / one for both, one in zip(together[kind], alone, strict=True))
        macs, ranks, formats = (statistics.median(column) for column in zip(*sizes[kind], strict=True))
        print(
            f"joint, {kind}: {statistics.median(together[kind]):.2f} s, ratio {ratio:.2f} "
            f"(MACs {macs:.2f}, {ranks:g} layers factorised, {formats:g} tensors rounded)"
        )


def _space(setup: Setup) -> NetworkSpace:
    return cast(NetworkSpace, setup.space)


def _point(space: NetworkSpace, kind: str, rng: np.random.Generator) -> Point:
    """A random Point of a kind, with all blocks: without some trials would be shorter."""
    operators = np.array([knob.operator for knob in space.knobs])
    gates = np.array([knob.kind == "gate" for knob in space.knobs])
    shares = np.where(gates, 1.0, rng.random(len(space.knobs)))
    metric, part = ("size_bytes", 0.125) if kind == KINDS[1] else ("macs", 0.5)
    limits = {metric: part * space.original_cost(metric)}
    if kind != KINDS[2]:
        return space.project(shares, limits)
    levels = space.levels(space.project(np.where(operators == "channels", (1 + shares) / 2, shares), limits))
    drawn = [int(rng.choice(knob.levels)) for knob in space.knobs]
    return space.point(np.where(operators == "code", drawn, levels).tolist())


def _seconds(setup: Setup, point: Point) -> float:
    started = time.process_time()
    outcome = setup.evaluator(point)
    assert outcome.measurements, outcome.reason
    return time.process_time() - started


def _size(space: NetworkSpace, point: Point) -> tuple[float, int, int]:
    """The part of the MACs that is left, and how many layers are factorised and tensors rounded."""
    steps = space.plan(point).steps
    ranks = sum(len(step.ranks) for step in steps if isinstance(step, RankStep))
    formats = sum(len(step.formats) for step in steps if isinstance(step, CodeStep))
    return space.cost(point, "macs") / space.original_cost("macs"), ranks, formats


if __name__ == "__main__":
    main()
