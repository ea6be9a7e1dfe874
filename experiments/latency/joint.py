"""Depth and channels in 8-bit integers together, beside each single technique, at equal measured latency.

python -m experiments.latency.joint NETWORKS DATA WORK --rows rows.jsonl
    [--network resnet56] [--batch 1 64] [--share 0.25] [--seed 0] [--how int8 joint channels depth] [--table]

NETWORKS has a folder's worth of weights, NAME.safetensors or NAME-cifar10.safetensors. A budget is a share of the
original's float32 time in ONNX Runtime. Each study is a file in WORK that `automl search` runs and `automl export`
hands over; the file that deploys is then run on all 10,000 test images in ONNX Runtime. A JSON line a cell and
technique; what stands there is not run again, and a search that was stopped goes on.

int8: the original in 8-bit integers. channels, depth: that operator alone in float32. joint: both, in 8-bit integers.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
import yaml

from automl.config.study import StudyConfig
from automl.export import export
from automl.export.timing import measure_folder
from automl.measures.backends.measuring import Conditions
from automl.study.certificates import calibration_inputs
from automl.study.loading import load_problem
from experiments.latency.networks import right_in
from experiments.row_file import add_row, rows_of
from search_spaces import Plan

OPTIONS = {"resnet56": {}, "vgg16_bn": {"width": 0.5}, "mobilenet_v2": {"width": 0.5}}
CHANNELS = {"min_keep": 0.05}
HOWS: dict[str, tuple[dict[str, Any], str]] = {
    "joint": ({"depth": {}, "channels": CHANNELS}, "onnxruntime-int8"),
    "channels": ({"channels": CHANNELS}, "onnxruntime"),
    "depth": ({"depth": {}}, "onnxruntime"),
}
"""Technique -> the operators that are searched, and the backend."""
FILES = {"onnxruntime": "model.onnx", "onnxruntime-int8": "model-int8.onnx"}


@dataclass(frozen=True)
class Cell:
    """One study: a network within a share of its time for so many samples, by one technique."""

    network: str
    batch: int
    share: float
    seed: int
    how: str
    trials: int

    @property
    def name(self) -> str:
        """As its study is called."""
        return f"{self.network}-{self.batch}-{self.share:g}-{self.how}-{self.seed}-{self.trials}"


def main() -> None:
    """Run the cells that have no row yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--network", nargs="+", choices=OPTIONS, default=list(OPTIONS))
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 64])
    parser.add_argument("--share", nargs="+", type=float, default=[0.25, 0.33])
    parser.add_argument("--seed", nargs="+", type=int, default=[0])
    parser.add_argument("--how", nargs="+", choices=["int8", *HOWS], default=["int8", *HOWS])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--table", action="store_true", help="only print the table of what there is")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    rows = rows_of(args.rows)
    known = {row["cell"] for row in rows}
    cells = product(args.network, args.batch, args.share, args.seed, args.how)
    for cell in [] if args.table else (Cell(*one, args.trials) for one in cells):
        if cell.how == "int8":  # the same file whatever the budget and seed
            cell = Cell(cell.network, cell.batch, 1.0, 0, "int8", 0)
        if cell.name in known:
            continue
        row = {"cell": cell.name, **vars(cell), **(alone(cell, args) if cell.how == "int8" else studied(cell, args))}
        known.add(cell.name)
        rows.append(row)
        add_row(args.rows, row)
        print(row, flush=True)
    print(table(rows))


def described(cell: Cell, args: argparse.Namespace) -> dict[str, Any]:
    """The study file of a cell."""
    space, backend = HOWS.get(cell.how, HOWS["joint"])
    files = (args.networks / f"{cell.network}{end}.safetensors" for end in ("", "-cifar10"))
    weights = next(path.resolve() for path in files if path.exists())
    return {
        "name": cell.name,
        "model": {"name": cell.network, "options": OPTIONS[cell.network], "weights": str(weights)},
        "data": {
            **{"name": "cifar10", "root": str(args.data.resolve())},
            **{"validation_size": 1000, "calibration_size": 1024},
        },
        "space": space,
        "budget": f"latency <= {cell.share:.0%} on {backend}",
        "latency": {"batch": cell.batch},
        "objective": "divergence",
        "agent": "exact",
        "baselines": [],
        "trials": max(cell.trials, 1),
        "seeds": [cell.seed],
        "finish": {"finalists": 1, "reconstruction": "blockwise"},
        "runner": {"threads": 1},
    }


def alone(cell: Cell, args: argparse.Namespace) -> dict[str, Any]:
    """What the original in 8-bit integers takes and is worth."""
    problem = load_problem(StudyConfig.from_dict(described(cell, args)))
    network, folder = problem.model.eval(), args.work / cell.name
    export(
        *(network, problem.example_inputs, Plan(), folder, ("onnx", "onnx-int8")),
        manifest={"study": cell.name, "agent": "base", "seed": 0, "trial": 0},
        calibration=calibration_inputs(problem),
        original=network,
    )
    timed = measure_folder(folder, Conditions("onnxruntime-int8", cell.batch))
    test = problem.read_test()
    original, own = (right_in(folder / FILES[backend], test) for backend in ("onnxruntime", "onnxruntime-int8"))
    return {"ratio": timed["ratio"], "noise": timed["noise"], "original": original, "accuracy": own}


def studied(cell: Cell, args: argparse.Namespace) -> dict[str, Any]:
    """What the winner of a cell's study takes and is worth, or why there is none."""
    file, out = args.work / f"{cell.name}.yaml", args.work / cell.name
    file.write_text(yaml.safe_dump(described(cell, args), sort_keys=False))
    storage = ["--storage", f"sqlite:///{(args.work / 'joint.db').resolve()}"]
    error = called(["search", str(file), *storage])
    if error is not None:
        return {"cannot": error}
    backend = HOWS[cell.how][1]
    formats = {"onnxruntime": "onnx", "onnxruntime-int8": "onnx-int8"}
    error = called(["export", cell.name, "--out", str(out), "--format", formats[backend], *storage])
    told = json.loads((out / "certificate.json").read_text())
    manifest = json.loads((out / "manifest.json").read_text())
    problem = load_problem(StudyConfig.from_file(file))
    return {
        **{"ratio": told["ratio"], "within": told["within"], "noise": told["noise"], "certified_again": error is None},
        "accuracy": right_in(out / FILES[backend], problem.read_test()),
        "macs": manifest["measurements"]["macs"]["value"] / manifest["base"]["macs"]["value"],
        "point": manifest["point"],
        "trial": manifest["trial"],
    }


def called(command: list[str]) -> str | None:
    """Run a command of the program; the last line that it says if it fails, and None if it does not."""
    with tempfile.TemporaryFile("w+") as said:
        done = subprocess.run([sys.executable, "-m", "automl.cli", *command], stderr=said, check=False)
        said.seek(0)
        lines = [line.rstrip() for line in said if line.strip()]
    print(*lines[-40:], sep="\n", flush=True)
    return None if done.returncode == 0 else (lines or ["said nothing"])[-1]


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a row a cell and technique, mean and standard deviation over seeds."""
    lines = [
        "| network | batch | budget | technique | seeds | of float32's time | test accuracy | lost |",
        "|" + " --- |" * 8,
    ]
    whole = {row["network"]: row["original"] for row in rows if row["how"] == "int8"}
    seen = dict.fromkeys((row["network"], row["batch"], row["share"], row["how"]) for row in rows)
    for key in sorted(seen):
        found = [row for row in rows if (row["network"], row["batch"], row["share"], row["how"]) == key]
        lines.append(f"| {key[0]} | {key[1]} | {key[2]:.0%} | {key[3]} | {len(found)} | {_outcome(found, whole)} |")
    return "\n".join(lines)


def _outcome(rows: list[dict[str, Any]], whole: Mapping[str, float]) -> str:
    """The last three columns of a row of the table; `whole`: network -> the original's accuracy, where it is known."""
    able = [row for row in rows if "cannot" not in row]
    if not able:
        return "cannot | |"
    ratio = mean(row["ratio"]["value"] for row in able)
    high = max(row["ratio"]["high"] for row in able)
    accuracies = [100 * row["accuracy"] for row in able]
    spread = f" ± {stdev(accuracies):.2f}" if len(able) > 1 else ""
    original = whole.get(rows[0]["network"])
    lost = "" if original is None else f"{100 * original - mean(accuracies):.2f}"
    return f"{ratio:.1%} (at most {high:.1%}) | {mean(accuracies):.2f}{spread} | {lost}"


if __name__ == "__main__":
    main()
