"""How well two measurements of one network in separate processes agree, beside whatever else the machine does.

python -m experiments.latency.repeatability FOLDER [--pairs 30] [--backend onnxruntime-int8] --out rows.jsonl

FOLDER is an export with its original. Each measurement is one of `automl measure` with one process, each pair two in a
row; what is compared is the ratio to the original, and whether the tool said that the machine was noisy.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from automl.export.timing import measure_folder
from automl.measures.backends.measuring import Conditions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--backend", default="onnxruntime-int8")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    conditions = Conditions(args.backend, args.batch, processes=args.processes)
    with args.out.open("a", encoding="utf-8") as file:
        for _ in range(args.pairs):
            pair = [measure_folder(args.folder, conditions) for _ in range(2)]
            row = [{key: one[key] for key in ("ratio", "latency_ms", "noise", "backend", "batch")} for one in pair]
            print(json.dumps(row), file=file, flush=True)
    print(summary([json.loads(line) for line in args.out.read_text(encoding="utf-8").splitlines()]))


def summary(rows: list[list[dict[str, object]]]) -> str:
    """How many pairs agree within 3 %, and of those that do not, of how many the tool said that it was noisy."""
    ratios = np.array([[one["ratio"]["value"] for one in pair] for pair in rows])
    apart = np.abs(ratios[:, 0] / ratios[:, 1] - 1)
    quiet = np.array([not any(one["noise"] for one in pair) for pair in rows])
    return (
        f"{len(rows)} pairs: {np.mean(apart <= 0.03):.0%} agree within 3 %, median {np.median(apart):.2%}, most "
        f"{apart.max():.2%}; called quiet {quiet.sum()}, of which more than 3 % apart {(quiet & (apart > 0.03)).sum()}"
    )


if __name__ == "__main__":
    main()
