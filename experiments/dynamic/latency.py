"""Time of every size from the one ONNX file, and what early leaving saves: `python -m experiments.dynamic.latency ...`.

Takes the weights that `run.py` left in its checkpoints. Widths and ways to exits are timed in turn on ONNX Runtime, one
thread, one image. Thresholds for a mean time are chosen on validation images by the measured times; then so many test
images go through the file one by one, and the mean time is what that took.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from automl.data import load
from automl.dynamic.latency_policy import LatencyTable, open_sizes, time_folder
from automl.dynamic.sized_folder import write_folder
from automl.dynamic.thresholds import answers, thresholds_for
from experiments.dynamic.run import ARMS, X


def main() -> None:
    """Print the two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root")
    parser.add_argument("--checkpoints", type=Path, required=True)
    parser.add_argument("--images", type=int, default=2000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        _, table = timed("slimmable, distilled late", args.checkpoints, Path(folder) / "slim")
        print("| width | ms (95 % interval) |\n| --- | --- |")
        for width, ms in table.times.items():
            print(f"| {width:g} | {ms.value:.3f} ({ms.low:.3f} to {ms.high:.3f}) |")
        print(
            "\n" + ", ".join(f"{ms:g} ms: width {table.choose(ms):g}" for ms in np.round(table.costs, 3) + 0.001), "\n"
        )
        exits, table = timed("exits", args.checkpoints, Path(folder) / "exits")
        print("| all at exit | ms (95 % interval) |\n| --- | --- |")
        for k, ms in table.times.items():
            print(f"| {k + 1:g} | {ms.value:.3f} ({ms.low:.3f} to {ms.high:.3f}) |")
        splits = load("cifar10", root=args.data_root, validation_size=5000, calibration_size=100)
        test = splits.test()
        images = torch.cat([inputs[0] for inputs, _ in test])[: args.images].numpy()
        labels = torch.cat([targets for _, targets in test])[: args.images].numpy()
        held, session = answers(exits, splits.validation), open_sizes(Path(folder) / "exits")
        print("\n| mean ms allowed | mean ms measured | test images | right |\n| --- | --- | --- | --- |")
        for part in (0.25, 0.5, 0.75, 1.0):
            budget = table.costs[0] + part * (table.costs[-1] - table.costs[0])
            thresholds = np.array(thresholds_for(held.confidence, table.costs, budget), dtype=np.float32)
            start = time.thread_time()
            found = [session.run(None, {"input_0": x[None], "thresholds": thresholds})[0].argmax() for x in images]
            ms = (time.thread_time() - start) * 1e3 / len(images)
            print(f"| {budget:.3f} | {ms:.3f} | {len(images)} | {np.mean(np.array(found) == labels):.2%} |")


def timed(arm: str, checkpoints: Path, folder: Path) -> tuple[Any, LatencyTable]:
    """The trained network of an arm, and the times of its file."""
    network: Any = ARMS[arm]()[0]
    network.load_state_dict(torch.load(checkpoints / f"{arm}-0.weights.pt", weights_only=True))
    write_folder(network.eval(), X, folder)
    return network, time_folder(folder, (X[0][:1],))


if __name__ == "__main__":
    main()
