"""ResNet-56 at 2.11 and 2.55 times fewer multiply-accumulates, trained from the joint space's start, over seeds.

    python -m experiments.training.resnet56 STUDY.yaml --data-root DATA --work FOLDER --rows ROWS.jsonl
        [--seeds 0 1 2] [--shares 47.39% 39.2%] [--set KEY=VALUE ...] [--table]

A seed draws the images that serve for validation and calibration, and the order of those that are trained on. Each
study lies in a database in FOLDER; one that was killed goes on from its last epoch when this is run again. A
row says what the network is worth before the training (on validation data) and after it (on all 10,000 test images,
looked at once); `--set` changes what the study file says.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

from automl.commands.search import run_study
from automl.config.study import StudyConfig
from automl.store import open_store
from automl.study.conclude import Results
from automl.study.study import Study
from automl.types import Phase
from experiments.joint.draws import changed, rows_of
from experiments.row_file import mean_of

Row = dict[str, Any]


def main() -> None:
    """Train what has no row yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--shares", nargs="+", default=["47.39%", "39.2%"], help="of the original's MACs")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--table", action="store_true", help="only print the table of what there is")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    storage = f"sqlite:///{args.work.resolve()}/trainings.db"
    for seed, share in [] if args.table else product(args.seeds, args.shares):
        cell = {"set": sorted(args.set), "share": share, "seed": seed}
        if rows_of(args.rows, cell):
            continue
        drawn = [f"budget=macs <= {share}", f"data.split_seed={seed}", f"finish.training.seed={seed}"]
        config = changed(args.study, [*args.set, *drawn, f"data.root={args.data_root}"])
        name = f"{config.name}-{share.strip('%')}-{seed}"
        row = cell | outcome(replace(config, name=name), storage)
        with args.rows.open("a") as file:
            print(json.dumps(row), file=file)
        print(row, flush=True)
    print("\n".join(table(rows_of(args.rows, {}))))


def outcome(config: StudyConfig, storage: str) -> Row:
    """What the winner of a study is worth before and after its training, and what it costs."""
    row: Row = {}

    def note(_: Study, results: Results) -> None:
        winner = results.winner
        before, after, test = (winner.values_of(phase) for phase in (Phase.REFITTED, Phase.FINAL, Phase.TEST))
        row["validation before"], row["validation"] = before["accuracy"], after["accuracy"]
        row["test"], row["macs"], row["params"] = test["accuracy"], after["macs"], after["params"]
        course = [m for m in winner.measurements if m.phase is Phase.TRAINING]
        row["epochs"] = {m.step: m.value for m in course if m.metric == "validation_accuracy"}

    start = time.process_time()
    with open_store(storage) as store:
        if run_study(store, config, storage, "lines", after=note):
            raise SystemExit(130)
    return {**row, "seconds": round(time.process_time() - start)}


def table(rows: list[Row]) -> Iterator[str]:
    """Markdown: a row a share and what was set, mean and standard deviation over the seeds."""
    yield "| MACs | set | seeds | validation, refitted | validation | test | parameters |"
    yield "|" + " --- |" * 7
    for share, changes in dict.fromkeys((row["share"], tuple(row["set"])) for row in rows):
        cell = [row for row in rows if (row["share"], tuple(row["set"])) == (share, changes)]
        told = [mean_of([100 * row[key] for row in cell]) for key in ("validation before", "validation", "test")]
        params = statistics.mean(row["params"] for row in cell)
        yield f"| {share} | {' '.join(changes)} | {len(cell)} | {' | '.join(told)} | {params:,.0f} |"


if __name__ == "__main__":
    main()
