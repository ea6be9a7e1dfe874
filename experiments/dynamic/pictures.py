"""Pictures of what `run.py` measured, written beside it: `python -m experiments.dynamic.pictures --data-root DIR`."""

from __future__ import annotations

import argparse
import json
from typing import Any

import matplotlib

matplotlib.use("Agg")

import torch
from matplotlib import pyplot as plt

from automl.data import load
from experiments.dynamic.run import HERE

CLASSES = ("plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
Row = dict[str, Any]


def main() -> None:
    """Draw the trade-off, and the images that leave first and last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root")
    args = parser.parse_args()
    rows = {row["arm"]: row for row in map(json.loads, (HERE / "rows.jsonl").read_text().splitlines())}
    draw_trade_off(rows)
    draw_images(rows["exits"], args.data_root)


def draw_trade_off(rows: dict[str, Row]) -> None:
    """Test accuracy against mean multiply-accumulates, of all that was trained."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for rule, course in rows["exits"]["curves"].items():
        axes.plot(*_points(course, "mean_cost"), ".-", label=f"exits, thresholds {rule}")
    axes.plot(*_points(rows["exits"]["fixed"], "mean_cost"), "x", color="black", label="one exit for all")
    for arm, row in rows.items():
        if "widths" in row:
            axes.plot(*_points(list(row["widths"].values()), "macs"), "s--", label=arm)
    for name in ("separate", "resnet"):
        alone = sorted((row for arm, row in rows.items() if arm.startswith(name)), key=lambda row: row["macs"])
        label = "widths trained separately" if name == "separate" else "ResNet-8 and -14"
        if alone:
            axes.plot(*_points(alone, "macs"), "o", label=label)
    axes.set(xlabel="mean multiply-accumulates, millions", ylabel="test accuracy, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(HERE / "trade_off.png", dpi=110)


def _points(found: list[Row], cost: str) -> tuple[list[float], list[float]]:
    return [one[cost] / 1e6 for one in found], [100 * one["right"] for one in found]


def draw_images(row: Row, root: str | None) -> None:
    """Test images that leave at the first exit most surely, and those of which the last is least sure."""
    batches = load("cifar10", root=root, validation_size=5000, calibration_size=100).test()
    images, labels = torch.cat([inputs[0] for inputs, _ in batches]), torch.cat([targets for _, targets in batches])
    figure, axes = plt.subplots(2, 10, figsize=(11, 2.8), layout="constrained")
    for line, name in enumerate(("easy", "hard")):
        for place, index in zip(axes[line], row[name], strict=True):
            image = images[index].permute(1, 2, 0)
            place.imshow((image - image.min()) / (image.max() - image.min()))
            place.set_title(CLASSES[int(labels[index])], fontsize=8)
            place.axis("off")
    figure.suptitle("above: leave at the first exit, most sure; below: go to the last, least sure", fontsize=9)
    figure.savefig(HERE / "easy_hard.png", dpi=110)


if __name__ == "__main__":
    main()
