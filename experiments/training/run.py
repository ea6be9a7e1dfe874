"""Methods that bring zeros about, at equal training time: `python -m experiments.training.run --data-root DIR`.

LeNet-300-100 from new weights, the same number of each layer's weights left by every method (ERK). Time is counted in
passes over a batch, of which CrAM+ takes two a step. Writes a line a training to `rows.jsonl` and skips what stands
there; `--seconds` begins nothing new after so long. `--table` prints the table of what is there.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

import torch
from torch import nn

from automl.config.method import MethodOptions
from automl.config.training import TrainingOptions
from automl.data import Splits, load
from automl.tasks.batches import Batch
from automl.training.loss import SupervisedLoss
from automl.training.methods.layouts import erdos_renyi_kernel
from automl.training.methods.registry import method_of
from automl.training.methods.target import Masks, Target, highest
from automl.training.trainer import train
from experiments.row_file import add_row, rows_of

ROWS = Path(__file__).with_name("rows.jsonl")
EPOCHS, SAMPLES = 8, 20_000
PLAIN = TrainingOptions(
    epochs=EPOCHS,
    samples=SAMPLES,
    learning_rate=0.05,
    schedule="linear",
    warmup=0.0,
    precision="float32",
    channels_last=False,
    device="cpu",
)
METHODS = {
    "dense": None,
    "one-shot + LLR": MethodOptions("iterative", rounds=2, first="train"),
    "gradual": MethodOptions("gradual", begins=0.1, every=25),
    "SET": MethodOptions("set", every=50),
    "RigL": MethodOptions("rigl", every=50),
    "AC/DC": MethodOptions("ac_dc", rounds=3),
    "CrAM+": MethodOptions("cram"),
    "constrained L0": MethodOptions("constrained_l0"),
}
PASSES = {"CrAM+": 2}
"""Forward and backward passes of a step, where that is not one."""


def main() -> None:
    """Train what is not there yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root")
    parser.add_argument("--data", default="fashion_mnist")
    parser.add_argument("--densities", type=float, nargs="+", default=[0.1, 0.05])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = rows_of(args.rows)
    known = {(row["data"], row["method"], row["density"], row["seed"]) for row in rows}
    wanted = [
        (args.data, name, density if METHODS[name] else 1.0, seed)
        for seed in args.seeds
        for density in args.densities
        for name in args.methods
    ]
    left = [key for key in dict.fromkeys(wanted) if key not in known]
    start = time.monotonic()
    if left and not args.table:
        splits = load(args.data, root=args.data_root, validation_size=5000, calibration_size=100, augment=False)
        test = splits.test()
        for key in left:
            if time.monotonic() - start > args.seconds:
                break
            rows.append(trained(splits, test, *key))
            add_row(args.rows, rows[-1])
            print(rows[-1], flush=True)
    print(table([row for row in rows if row["data"] == args.data]))


def trained(splits: Splits, test: list[Batch], data: str, name: str, density: float, seed: int) -> dict[str, object]:
    """One training, and what came of it."""
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
    )
    weights = {n: p for n, p in network.named_parameters() if p.ndim > 1}
    options = METHODS[name]
    training = replace(PLAIN, epochs=EPOCHS // PASSES.get(name, 1), method=options, seed=seed)
    methods = []
    if options is not None:
        target = Target(erdos_renyi_kernel({n: tuple(p.shape) for n, p in weights.items()}, density))
        methods = [method_of(options, target)]
        if not options.dense:
            drawn = {n: highest(torch.rand(p.shape), target.counts[n]) for n, p in weights.items()}
            Masks(drawn).hold_weights(network)
    start = time.process_time()
    train(
        network,
        lambda epoch: splits.training(epoch, training.batch_size),
        SupervisedLoss(nn.functional.cross_entropy),
        training,
        methods=methods,
    )
    seconds = time.process_time() - start
    return {
        "data": data,
        "method": name,
        "density": density,
        "seed": seed,
        "validation": accuracy(network, splits.validation),
        "test": accuracy(network, test),
        "kept": sum(int(p.count_nonzero()) for p in weights.values()) / sum(p.numel() for p in weights.values()),
        "s": round(seconds, 1),
    }


@torch.inference_mode()
def accuracy(network: nn.Module, batches: list[Batch]) -> float:
    """The part of the images that is classified right."""
    right = sum(int((network(*inputs).argmax(1) == labels).sum()) for inputs, labels in batches)
    return right / sum(len(labels) for _, labels in batches)


def table(rows: list[dict[str, object]]) -> str:
    """Test accuracy in percent, mean and standard deviation over the seeds, a row a method."""
    densities = sorted({row["density"] for row in rows if row["density"] != 1.0}, reverse=True)
    lines = [
        "| method | " + " | ".join(f"{1 - d:.0%} gone" for d in densities) + " | seconds |",
        "| --- |" + " --- |" * (len(densities) + 1),
    ]
    for name in METHODS:
        cells = []
        for density in densities if METHODS[name] else [1.0] * len(densities):
            found = [100 * row["test"] for row in rows if (row["method"], row["density"]) == (name, density)]
            cells.append(f"{mean(found):.2f} ± {stdev(found):.2f}" if len(found) > 1 else str(found))
        seconds = [row["s"] for row in rows if row["method"] == name]
        lines.append(f"| {name} | {' | '.join(cells)} | {mean(seconds):.0f} |" if seconds else f"| {name} | |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
