"""A network in few bits before and after it is trained: every layer in one format, straight through the rounding.

    python -m experiments.training.few_bits WEIGHTS.safetensors --data-root DATA --rows ROWS.jsonl
        [--network resnet20] [--formats binary ternary int2 coded1.25] [--inputs float32 int8]
        [--epochs 2] [--samples N] [--rate 0.005] [--seeds 0] [--table]

Fitted layer after layer on 1,024 calibration images without a label, as a finalist is, then trained on 45,000 images
with labels and the original's outputs: SGD along a line to 0, images shifted and mirrored. All 10,000 test images, once
before and once after; the file as packed. A row is written as soon as it is there, and those that are
there are not made again.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import torch

from automl.config.study import StudyConfig
from automl.config.training import DistillationOptions, TrainingOptions
from automl.measures.counts import state_tensors
from automl.study.setup import Setup
from experiments.row_file import Row, add_row, mean_of, rows_of
from experiments.training.run import accuracy
from search_spaces import NetworkSpace
from search_spaces.codecs.packing import pack

CELL = ("network", "format", "inputs", "epochs", "samples", "rate", "seed")
"""The keys of a row that say what was asked."""


def main() -> None:
    """Train what has no row yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--network", default="resnet20")
    parser.add_argument("--formats", nargs="+", default=["binary", "ternary", "int2", "coded1.25"])
    parser.add_argument("--inputs", nargs="+", choices=("float32", "int8"), default=["float32"])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--samples", type=int, help="of each epoch, in the place of all")
    parser.add_argument("--rate", type=float, default=0.005)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--table", action="store_true", help="only print the table of what there is")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = rows_of(args.rows)
    known = {tuple(row[key] for key in CELL) for row in rows}
    for seed, form, inputs in [] if args.table else product(args.seeds, args.formats, args.inputs):
        cell = dict(zip(CELL, (args.network, form, inputs, args.epochs, args.samples, args.rate, seed), strict=True))
        if tuple(cell.values()) not in known:
            rows.append(cell | outcome(cell, args))
            add_row(args.rows, rows[-1])
            print(rows[-1], flush=True)
    print("\n".join(table(rows)))


def outcome(cell: Row, args: argparse.Namespace) -> Row:
    """What the network is worth before and after its training, and its file."""
    training = TrainingOptions(
        epochs=cell["epochs"],
        samples=cell["samples"],
        learning_rate=cell["rate"],
        schedule="linear",
        warmup=0.1,
        distillation=DistillationOptions(),
        seed=cell["seed"],
    )
    config = {
        "name": "few-bits",
        "model": {"name": cell["network"], "weights": str(args.weights.resolve())},
        "data": {
            **{"name": "cifar10", "root": args.data_root, "split_seed": cell["seed"]},
            **{"validation_size": 5000, "calibration_size": 1024},
        },
        "space": {"code": {"formats": [cell["format"]], "inputs": cell["inputs"]}},
        "budget": "size <= 90%",
        "runner": {"threads": 1},
    }
    setup = Setup(StudyConfig.from_dict(config))
    setup.evaluator.prepare()
    finisher, test, space = setup.evaluator.finishing(), setup.problem.read_test(), setup.space
    assert isinstance(space, NetworkSpace)
    point = space.point(space.lowest.tolist())
    network = finisher.network(point)
    with torch.inference_mode():
        before, start = accuracy(network, test), time.process_time()
    history = finisher.train(network, point, training, say=lambda line: print(line, flush=True))
    with torch.inference_mode():
        after = accuracy(network, test)
    return {
        "before": before,
        "test": after,
        "bytes": len(pack(state_tensors(network)[0])),
        "loss": [epoch.loss for epoch in history.epochs],
        "seconds": round(time.process_time() - start),
    }


def table(rows: list[Row]) -> Iterator[str]:
    """Markdown: a row a format, means and standard deviations over seeds."""
    yield "| network | weights | inputs | file | fitted, no label | trained, epochs | rate | seconds | seeds |"
    yield "|" + " --- |" * 9
    for wanted in dict.fromkeys(tuple(row[key] for key in CELL[:-1]) for row in rows):
        ours = [row for row in rows if tuple(row[key] for key in CELL[:-1]) == wanted]
        network, form, inputs, epochs, samples, rate = wanted
        taken = f"{epochs}" if samples is None else f"{epochs} of {samples:,} images"
        size, seconds = (statistics.mean(row[key] for row in ours) for key in ("bytes", "seconds"))
        before, after = (mean_of([100 * row[key] for row in ours]) for key in ("before", "test"))
        cells = (
            network,
            form,
            inputs,
            f"{size / 1000:.1f} KB",
            before,
            f"{after} ({taken})",
            f"{rate}",
            f"{seconds:.0f}",
        )
        yield f"| {' | '.join(cells)} | {len(ours)} |"


if __name__ == "__main__":
    main()
