"""The ladder of recovery, from the rows of `run.py`: a table and a picture of accuracy against seconds of compute.

    python experiments/recovery/ladder.py ROWS.jsonl [...] --out experiments/recovery/ladder

Writes OUT.md and OUT.png. The rows of one file belong to one study; seeds of the same arm, number of epochs and
learning rate are one point, at the mean of both, with their standard deviation in the table. A training starts from
`sequential`, whose seconds come before its own.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from matplotlib.figure import Figure

Ladder = dict[tuple[str, int, float | None], list[dict[str, Any]]]
"""(arm, epochs, learning rate) -> its rows, one a seed."""

UNTRAINED = ("sliced", "batch norms", "least squares", "sequential", "blockwise")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    ladders = {path.stem: gathered(path) for path in args.rows}
    text = "\n\n".join(f"## {name}\n\n{table(ladder)}" for name, ladder in ladders.items())
    args.out.with_suffix(".md").write_text(text + "\n")
    print(text)
    draw(ladders, args.out.with_suffix(".png"))


def gathered(path: Path) -> Ladder:
    found: Ladder = defaultdict(list)
    for line in path.read_text().splitlines():
        row = json.loads(line)
        found[row["arm"], row["epochs"], row.get("learning_rate")].append(row)
    rungs = [*UNTRAINED, *sorted({arm for arm, *_ in found} - {*UNTRAINED})]
    return dict(sorted(found.items(), key=lambda item: (item[0][1], rungs.index(item[0][0]), item[0][2] or 0.0)))


def table(ladder: Ladder) -> str:
    head = ("rung", "epochs", "learning rate", "seeds", "seconds", "validation accuracy", "test accuracy")
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    for (arm, epochs, rate), rows in ladder.items():
        seeds = ", ".join(str(row["seed"]) for row in rows)
        seconds = mean(row["seconds"] for row in rows)
        cells = [arm, str(epochs), str(rate or ""), seeds, f"{seconds:.1f}"]
        cells += [percent(rows, split) for split in ("validation", "test")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def percent(rows: list[dict[str, Any]], split: str) -> str:
    values = [100 * row[split]["accuracy"] for row in rows]
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


def draw(ladders: dict[str, Ladder], path: Path) -> None:
    figure = Figure(figsize=(6 * len(ladders), 4.5), layout="constrained")
    for place, (name, ladder) in enumerate(ladders.items(), start=1):
        ax = figure.add_subplot(1, len(ladders), place)
        arms = defaultdict(list)
        for (arm, *_), rows in ladder.items():
            point = mean(row["seconds"] for row in rows), 100 * mean(row["test"]["accuracy"] for row in rows)
            arms["untrained" if arm in UNTRAINED else arm].append(point)
            if arm in UNTRAINED:
                ax.annotate(arm, point, textcoords="offset points", xytext=(-5, 5), ha="right", fontsize=8)
        for arm, points in arms.items():
            ax.plot(*zip(*sorted(points), strict=True), marker="o", label=arm)
        ax.set(title=name, xscale="log", xlabel="seconds of one core", ylabel="test accuracy, %")
        # By the logarithm of the error: a point of accuracy near the top is worth more than one at the bottom.
        ax.set_yscale("function", functions=(lambda y: -np.log(100 - np.minimum(y, 99.9)), lambda y: 100 - np.exp(-y)))
        ax.set_yticks([20, 40, 60, 70, 80, 85, 90, 91, 92, 93])
        ax.grid(axis="y", alpha=0.3)
        ax.margins(x=0.12)
        ax.legend()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
