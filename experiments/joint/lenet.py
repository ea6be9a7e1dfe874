"""LeNet-300-100 on MNIST against Deep Compression: the smallest file, nothing trained after the network itself.

    python -m experiments.joint.lenet --data-root DATA --out ROWS.jsonl [--seeds 0 1 2] [--budgets 70 50 40 30]
        [--spaces zeros-codebooks zeros-coded coded] [--table]

The network is trained for 20 epochs from new weights, a seed each. Formats and single weights of each layer are then
allocated by the error curves within a budget in KB, foretold, and fitted layer after layer without labels (2,048
calibration images). Bytes are those of the packed file, and the error is that of the network read back from it, on all
10,000 test images. Han et al. 2016 (table 1), who prune and tune in turns, have 27 KB of 1,070 (40 times smaller) at an
error of 1.58 %, 1.64 % before.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from agents.allocation import Allocator
from automl.config.training import TrainingOptions
from automl.data import Splits, load
from automl.training.loss import SupervisedLoss
from automl.training.trainer import train
from experiments.joint.draws import rows_of
from experiments.joint.one_network import setup_of
from experiments.training.resnet56 import spread
from experiments.training.run import accuracy
from search_spaces import InfeasibleBudgetError
from search_spaces.codecs.packing import pack, unpack

Row = dict[str, Any]

SHARED = {"formats": ["shared1", "shared2", "shared3", "shared4", "shared5"]}
CODED = {"formats": ["coded1.25", "coded1.5", "coded1.75", "coded2", "coded2.5", "coded4"]}
SPACES: dict[str, dict[str, Any]] = {
    "zeros-codebooks": {"sparsity": {"min_keep": 0.02}, "code": SHARED},
    "zeros-coded": {"sparsity": {"min_keep": 0.02}, "code": CODED},
    "coded": {"code": CODED},
}
MODEL = "experiments.joint.lenet:lenet"
TRAINING = TrainingOptions(
    epochs=20, learning_rate=0.1, schedule="linear", warmup=0.0, precision="float32", channels_last=False, device="cpu"
)


def lenet() -> nn.Module:
    """LeNet-300-100 (LeCun et al. 1998): 266,610 parameters, 1,066 KB."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
    )


def main() -> None:
    """Train the networks, compress each for every budget, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--budgets", type=float, nargs="+", default=[70, 50, 40, 30])
    parser.add_argument("--spaces", nargs="+", choices=SPACES, default=list(SPACES))
    parser.add_argument("--table", action="store_true", help="only print the table of what there is")
    args = parser.parse_args()
    torch.set_num_threads(1)
    splits = load("mnist", root=args.data_root, validation_size=5000, calibration_size=100, augment=False)
    for seed in [] if args.table else args.seeds:
        missing = [
            (name, budget)
            for name, budget in product(args.spaces, args.budgets)
            if not rows_of(args.out, {"seed": seed, "space": name, "budget": budget})
        ]
        if missing:
            for row in compressed(seed, splits, args.data_root, missing):
                with args.out.open("a") as file:
                    print(json.dumps(row), file=file)
                print(row, flush=True)
    print("\n".join(table(rows_of(args.out, {}))))


def compressed(seed: int, splits: Splits, data_root: str, wanted: list[tuple[str, float]]) -> Iterator[Row]:
    """A row for each space and budget in KB."""
    torch.manual_seed(seed)
    assert splits.test is not None
    network, test = lenet(), splits.test()
    loss = SupervisedLoss(nn.functional.cross_entropy)
    train(network, lambda epoch: splits.training(1000 * seed + epoch, TRAINING.batch_size), loss, TRAINING)
    before = accuracy(network, test)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, "lenet.safetensors")
        save_file(network.state_dict(), weights)
        for name, budget in wanted:
            started = time.process_time()
            limit = f"size <= {budget} KB"
            row: Row = {"seed": seed, "space": name, "budget": budget, "before": before}
            try:
                setup = setup_of(MODEL, weights, data_root, SPACES[name], limit, calibration=2048, data="mnist")
                point = Allocator(setup.space, setup.limits, setup.evaluator.sensitivity()).plain()
            except InfeasibleBudgetError as error:
                yield {**row, "cannot": str(error)}
                continue
            made = setup.evaluator.reporting("sequential").network(point)
            content = pack({key: tensor.clone() for key, tensor in made.state_dict().items()})
            file = Path(folder, "packed.safetensors")
            file.write_bytes(content)
            made.load_state_dict(unpack(file))
            told = {"accuracy": accuracy(made, test), "bytes": len(content), "point": dict(point)}
            yield {**row, **told, "seconds": round(time.process_time() - started, 1)}


def table(rows: list[Row]) -> Iterator[str]:
    """Markdown: a row a space and budget, mean and standard deviation over seeds."""
    yield "| space | foretold | seeds | file | times smaller | test error | error before |"
    yield "|" + " --- |" * 7
    for name, budget in dict.fromkeys((row["space"], row["budget"]) for row in rows):
        cell = [row for row in rows if (row["space"], row["budget"]) == (name, budget)]
        if any("cannot" in row for row in cell):
            yield f"| {name} | {budget:g} KB | | cannot | | | |"
            continue
        size = statistics.mean(row["bytes"] for row in cell)
        errors = [spread([100 - 100 * row[key] for row in cell]) for key in ("accuracy", "before")]
        ratio = 4 * 266_610 / size
        yield f"| {name} | {budget:g} KB | {len(cell)} | {size / 1000:.1f} KB | {ratio:.0f} | {' | '.join(errors)} |"


if __name__ == "__main__":
    main()
