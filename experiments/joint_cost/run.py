"""What it takes to know the cost of a Point: in a joint space of four operators, beside channels alone.

    python experiments/joint_cost/run.py [NETWORK]

Spaces are timed in turn, round by round; what counts is the ratio of medians of processor time. A *walk* is what agents
mostly do: one knob after the other changes, as along the wall of a budget. *Afresh* is another random Point each time.
"""

from __future__ import annotations

import statistics
import sys
import time

import numpy as np
import torch

from automl.zoo import create
from search_spaces import NetworkSpace

SPACES = {
    "channels": {"channels": {}},
    "depth + channels + rank + code": {"depth": {}, "channels": {}, "rank": {}, "code": {}},
}
ROUNDS, POINTS = 15, 60


def walk(space: NetworkSpace, rng: np.random.Generator) -> list[np.ndarray]:
    """Levels of which each differs from the one before in one knob: from the last knob back to the first."""
    levels, out = space.original_levels, []
    for t in np.linspace(len(levels) - 1, 0, POINTS).round().astype(int):
        levels = levels.copy()
        levels[t] = int(rng.choice(space.knobs[t].levels))
        out.append(levels)
    return out


def afresh(space: NetworkSpace, rng: np.random.Generator) -> list[np.ndarray]:
    """Random levels, most blocks there."""
    gates = np.array([knob.kind == "gate" for knob in space.knobs])
    drawn = [np.array([int(rng.choice(knob.levels)) for knob in space.knobs]) for _ in range(POINTS)]
    return [np.where(gates & (rng.random(len(gates)) < 0.9), 1, levels) for levels in drawn]


def seconds(space: NetworkSpace, points: list[np.ndarray], metrics: tuple[str, ...]) -> float:
    start = time.process_time()
    for levels in points:
        for metric in metrics:
            space.cost_of_levels(levels, metric)
    return (time.process_time() - start) / len(points)


def main() -> None:
    torch.set_num_threads(1)
    name = sys.argv[1] if len(sys.argv) > 1 else "resnet56"
    x = torch.zeros(2, 3, 32, 32)
    spaces = {label: NetworkSpace(create(name), (x,), operators) for label, operators in SPACES.items()}
    print(f"{name}: knobs " + ", ".join(f"{label} {len(space.knobs)}" for label, space in spaces.items()))
    print(f"{'what':34}" + "".join(f"{label:>34}" for label in spaces) + f"{'ratio':>8}")
    for kind in (walk, afresh):
        for metrics in (("macs",), ("params",), ("size_bytes",), ("macs", "params", "size_bytes")):
            points = {label: kind(space, np.random.default_rng(0)) for label, space in spaces.items()}
            times: dict[str, list[float]] = {label: [] for label in spaces}
            for _ in range(ROUNDS):
                for label, space in spaces.items():
                    times[label].append(seconds(space, points[label], metrics))
            one, joint = (statistics.median(times[label]) * 1e6 for label in spaces)
            cells = f"{one:31.1f} us{joint:31.1f} us{joint / one:8.2f}"
            print(f"{kind.__name__ + ', ' + ' + '.join(metrics):34}{cells}")


if __name__ == "__main__":
    main()
