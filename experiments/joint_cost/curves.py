"""What the error curves of a network take, and a trial of a joint space beside one of channels alone.

    python -m experiments.joint_cost.curves --data-root DATA --weights WEIGHTS.safetensors [--network resnet56]

Seconds of processor time on one thread. Curves: of each operator alone, what is gathered before them included, and of
depth, channels, ranks and code together, which are brought into one unit by measured networks. Trials: of random Points
at half the multiply-accumulates, one of each space after the other, the median of the ratios; nothing ends early.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from automl.config.study import StudyConfig
from automl.study.setup import Setup

SPACES = {
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--network", default="resnet56")
    parser.add_argument("--spaces", nargs="+", default=list(SPACES), choices=list(SPACES))
    parser.add_argument("--trials", type=int, default=8)
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
        setup.evaluator.sensitivity()
        ended = time.process_time()
        print(f"{name}: gathered in {prepared - started:.1f} s, curves in {ended - prepared:.1f} s", flush=True)
    if {"channels", "depth, channels, rank, code"} <= setups.keys() and arguments.trials:
        _trials(setups["channels"], setups["depth, channels, rank, code"], arguments.trials)


def _trials(channels: Setup, joint: Setup, count: int) -> None:
    rng, ratios, seconds = np.random.default_rng(0), [], []
    for _ in range(count):
        pair = []
        for setup in (channels, joint):
            space = setup.space
            gates = np.array([knob.kind == "gate" for knob in space.knobs])
            shares = np.where(gates, 1.0, rng.random(len(space.knobs)))  # blocks that go would make trials shorter
            point = space.project(shares, {"macs": 0.5 * space.original_cost("macs")})
            started = time.process_time()
            outcome = setup.evaluator(point)
            pair.append(time.process_time() - started)
            assert outcome.measurements, outcome.reason
        seconds.append(pair)
        ratios.append(pair[1] / pair[0])
    one, both = (statistics.median(column) for column in zip(*seconds, strict=True))
    print(f"a trial: channels {one:.2f} s, joint {both:.2f} s, ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
