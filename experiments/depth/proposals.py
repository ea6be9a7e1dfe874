"""How long a proposal takes: 8 candidates, each the best of 1,000, after 10 to 500 observations; a median of three.

    python experiments/depth/proposals.py --out experiments/depth/proposals.md

The space has 20 blocks that can go, each with a width, and a skip: 41 knobs, one row each of those that stand, and 20
rows of layers that stay, so that LSTMs read 61 rows and fewer. Observations are random Points. Times are those of the
process, on one thread: other programs on the machine do not count.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch

import agents
from agents import Goal, Trial, TrialState
from search_spaces import CostedSpace, Knob, Plan, Point

OBSERVATIONS = (10, 25, 50, 100, 150, 200, 300, 500)
BATCH = 8
BLOCKS = 20


class Blocks(CostedSpace):
    """Removable blocks of a chain, each 16 channels wide at most: two knobs and three layers a block."""

    metrics = ("macs", "params")
    feature_names = ("index", "size", "kind", "depth")

    def __init__(self) -> None:
        pairs = [
            (Knob(f"block{i}", (0, 1), "block", kind="gate"), Knob(f"width{i}", tuple(range(2, 17))))
            for i in range(BLOCKS)
        ]
        self.knobs = (*(knob for pair in pairs for knob in pair), Knob("skip", (0, 1), "skip", kind="free"))
        self.each = {"macs": np.repeat([4.0, 2.0], BLOCKS // 2), "params": np.repeat([1.0, 4.0], BLOCKS // 2)}

    def point(self, levels: Sequence[int]) -> Point:
        """The width of a removed block stands at the original's."""
        out = np.array(levels)
        out[1:-1:2][out[:-1:2] == 0] = 16
        return super().point(out.tolist())

    def cost_of_levels(self, levels: np.ndarray, metric: str) -> float:
        return float(100 + (self.each[metric] * levels[:-1:2] * levels[1:-1:2]).sum() * 10 + levels[-1])

    def features(self) -> np.ndarray:
        n = len(self.knobs)
        bits = [float(knob.is_bit) for knob in self.knobs]
        return np.stack([np.arange(n) / n, np.ones(n), bits, np.arange(n) // 2 / n], axis=1)

    def sequence(self, point: Point) -> np.ndarray:
        """The rows of the knobs, and one more for each block's projection, which stays: [n_rows, 5]."""
        stays = np.stack([np.arange(BLOCKS) / BLOCKS, *np.ones((4, BLOCKS))], axis=1)
        return np.concatenate([super().sequence(point), stays.astype(np.float32)])

    def plan(self, point: Point) -> Plan:
        return Plan()

    def build(self, plan: Plan) -> torch.nn.Module:
        raise NotImplementedError("a space of costs alone")


def accuracy(point: Point) -> float:
    """Made up: early blocks matter more."""
    kept = [point[f"block{i}"] * point[f"width{i}"] / 16 for i in range(BLOCKS)]
    return float(np.sqrt(kept) @ np.linspace(2, 1, BLOCKS) / (1.5 * BLOCKS))


def proposal_s(name: str, space: Blocks, limits: dict[str, float], observations: int, seed: int) -> float:
    """Seconds of one `ask(8)` of a new agent that has been told `observations` trials."""
    create = {"space": space, "goal": Goal("accuracy", "maximize"), "limits": limits, "seed": seed, "trials": 1000}
    random = agents.create("random", **create)
    agent = agents.create(name, **create, startup=5)
    points = random.ask(observations, [])
    agent.tell([Trial(n, point, TrialState.DONE, {"accuracy": accuracy(point)}) for n, point in enumerate(points)])
    start = time.process_time()
    proposed = agent.ask(BATCH, [])
    taken = time.process_time() - start
    assert len(set(proposed)) == BATCH
    return taken


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", nargs="+", default=["bo", "esnac"])
    parser.add_argument("--observations", type=int, nargs="+", default=OBSERVATIONS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(argv)
    space = Blocks()
    whole = space.cost_of_levels(space.highest, "macs")
    for name in args.agents:  # the first proposal loads libraries
        proposal_s(name, space, {"macs": whole / 2}, 10, 0)
    lines = [
        f"Seconds for a proposal of {BATCH} candidates, each the best of 1,000; median of {args.repeats}. "
        f"torch {torch.__version__}, one thread, {platform.machine()}.",
        "",
        "| observations | " + " | ".join(f"{name}, half the MACs | {name}, no budget" for name in args.agents) + " |",
        "|" + " --- |" * (1 + 2 * len(args.agents)),
    ]
    for observations in args.observations:
        cells = []
        for name in args.agents:
            for limits in ({"macs": whole / 2}, {}):
                times = [proposal_s(name, space, limits, observations, seed) for seed in range(args.repeats)]
                cells.append(f"{median(times):.2f}")
        lines.append(f"| {observations} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    if args.out:
        args.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
