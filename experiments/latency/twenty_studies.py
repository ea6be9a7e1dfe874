"""Twenty studies with random limits on latency, and their winners measured again an hour later.

python -m experiments.latency.twenty_studies search CHECKPOINTS DATA OUT [--only 3 7]
python -m experiments.latency.twenty_studies again OUT [--after 1.0]
python -m experiments.latency.twenty_studies table OUT

Network, backend, batch, share of the time, operators and agent are drawn by the study's number. A study is searched in
a process of its own, and its winner exported with its certificate; what came of it is a row of `searched.jsonl`.
`again` certifies each export once more by the command line, an hour later or more, into `again.jsonl`. What has a row
is not done again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import save_file

from automl.commands.search import run_study
from automl.config.study import StudyConfig
from automl.data.readers import read_cifar
from automl.evaluation.certify import CERTIFICATE
from automl.measures.backends.registry import backend_of
from automl.store import open_store
from automl.study.certificates import KIND, write_export
from automl.study.conclude import Results, manifest
from automl.study.study import Study
from automl.zoo import create

STUDIES = 20
HOUR = 3600.0
"""Seconds."""
TRIALS = 8
WIDTHS = 3
"""Of a layer that are timed, fewer than usual, so that a study takes minutes."""
UNTRAINED = ("plain20",)
"""Its weights are random, so that only time means anything."""
NETWORKS = (*(3 * ["small_cnn"]), *(6 * ["resnet20"]), *UNTRAINED)
"""In the shares in which they are dealt: small_cnn less often, since most of its time cannot be saved."""
BACKENDS = ("eager", "onnxruntime", "onnxruntime-int8", "openvino", "openvino-bf16", "openvino-int8")
AGENTS = (
    *("uniform", "random", "amc", "amc_warm", "allocation", "exact", "thompson", "evolution", "netadapt", "tpe"),
    *("cmaes", "nsga2", "bo", "esnac", "n2n", "local_search", "predictor"),
)
IMAGES = {"train": ("data_batch_1", 1500), "test": ("test_batch", 300)}
"""Images of CIFAR-10, so few because the studies are about time."""


@dataclass(frozen=True)
class Drawn:
    """What chance has chosen for a study."""

    network: str
    backend: str
    batch: int
    percent: int
    space: dict[str, dict[str, Any]]
    agent: str
    fast_widths: bool

    @property
    def budget(self) -> str:
        """As a study file has it."""
        return f"latency <= {self.percent}% on {self.backend}"


def drawn(number: int) -> Drawn:
    """The study of this number. Networks, backends and agents are dealt, so that each has its turn; code alone does not
    lower latency."""
    rng = np.random.default_rng([22, number])
    structure = [name for name in ("depth", "channels", "rank") if rng.random() < 0.5]
    space: dict[str, dict[str, Any]] = {name: {} for name in structure or ["channels"]}
    if "rank" in space:
        space["rank"] = {"scheme": str(rng.choice(["auto", "svd"]))}
    if rng.random() < 0.35:
        space["code"] = {"inputs": "int8"} if rng.random() < 0.5 else {}
    return Drawn(
        dealt(0, NETWORKS)[number],
        dealt(1, BACKENDS)[number],
        int(rng.choice([1, 64])),
        int(rng.integers(35, 91)),
        space,
        dealt(2, AGENTS)[number],
        bool("channels" in space and rng.random() < 0.3),
    )


def dealt(seed: int, what: Sequence[str]) -> list[str]:
    """One of `what` for each study, each as often as the others but for one."""
    rng = np.random.default_rng([22, STUDIES, seed])
    rounds = [rng.permutation(list(what)).tolist() for _ in range(-(-STUDIES // len(what)))]
    return [str(one) for dealing in rounds for one in dealing][:STUDIES]


def study_file(name: str, chosen: Drawn, checkpoints: Path, images: Path) -> dict[str, Any]:
    """The study file."""
    data: dict[str, Any] = (
        {"name": "digits"} if chosen.network == "small_cnn" else {"name": "arrays", "root": f"{images}"}
    )
    weights = {
        "small_cnn": Path(__file__).parents[1] / "digits" / "small_cnn.safetensors",
        "resnet20": checkpoints / "resnet20-cifar10.safetensors",
        **{network: images.parent / f"{network}.safetensors" for network in UNTRAINED},
    }
    return {
        "name": name,
        "model": {"name": chosen.network, "weights": str(weights[chosen.network].resolve())},
        "data": {**data, "validation_size": 256, "calibration_size": 256, "batch_size": 128},
        "space": chosen.space,
        "budget": chosen.budget,
        "objective": "divergence",
        "agent": chosen.agent,
        "baselines": [],
        "trials": TRIALS,
        "latency": {"batch": chosen.batch, "fast_widths": chosen.fast_widths, "widths": WIDTHS},
        "runner": {"threads": 1},
    }


def write_random_weights(out: Path) -> None:
    """The weights of the networks that are not trained, which a search and an export must both see."""
    for name in UNTRAINED:
        torch.manual_seed(0)
        save_file(create(name).state_dict(), out / f"{name}.safetensors")


def write_images(data: Path, path: Path) -> None:
    """A few images of CIFAR-10 as a file of arrays."""
    arrays: dict[str, np.ndarray] = {}
    for split, (file, count) in IMAGES.items():
        images, labels = read_cifar(data / "cifar-10-batches-py" / file, b"labels", classes=10)
        arrays |= {f"x_{split}": images[:count], f"y_{split}": labels[:count]}
    np.savez(path, **arrays)


def search(number: int, checkpoints: Path, out: Path) -> dict[str, Any]:
    """Run a study in a process of its own, which exports its winner; what came of it."""
    name, chosen = f"study{number:02}", drawn(number)
    file = out / f"{name}.yaml"
    file.write_text(yaml.safe_dump(study_file(name, chosen, checkpoints, out / "images.npz"), sort_keys=False))
    found = told("experiments.latency.twenty_studies", "one", str(file), str(out))
    return {"study": name, **vars(chosen), "search": found, **certified(out / name / CERTIFICATE), "time": time.time()}


def search_one(args: argparse.Namespace) -> None:
    """Run a study as `automl search` does, and export its winner with the certificate that the study has given it."""
    config, storage = StudyConfig.from_file(args.file), f"sqlite:///{args.out}/studies.db"

    def export(study: Study, results: Results) -> None:
        term, folder = config.parsed_budget.latency, args.out / config.name
        assert term is not None
        formats, winner = [backend_of(term.backend).format], results.winner
        write_export(study, winner, results.network, folder, formats, manifest(study, winner))
        (given,) = (
            one for one in study.store.artifacts(study.record.id) if (one.trial_id, one.kind) == (winner.id, KIND)
        )
        shutil.copyfile(given.path, folder / CERTIFICATE)

    with open_store(storage) as store:
        sys.exit(run_study(store, config, storage, after=export))


def again(row: dict[str, Any], out: Path) -> dict[str, Any]:
    """Certify an export once more."""
    folder, path = out / row["study"], out / row["study"] / "again.json"
    found = told("automl.cli", "certify", str(folder), "--out", str(path))
    return {"study": row["study"], "certify": found, **certified(path), "hours": (time.time() - row["time"]) / HOUR}


def told(module: str, *arguments: str) -> dict[str, Any]:
    """The exit status of a module run as a program, its seconds and the last lines that it wrote."""
    start = time.time()
    ran = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False)
    lines = [line for line in (ran.stderr + ran.stdout).splitlines() if line.strip()]
    return {"code": ran.returncode, "seconds": round(time.time() - start, 1), "said": lines[-12:]}


def certified(path: Path) -> dict[str, Any]:
    """What of a certificate is kept in a row."""
    if not path.exists():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    return {key: content[key] for key in ("ratio", "limit", "within", "noise", "backend", "batch")}


def rows_of(path: Path) -> dict[str, dict[str, Any]]:
    """Study -> its row."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {row["study"]: row for row in map(json.loads, lines)}


def add_row(path: Path, row: dict[str, Any]) -> None:
    """Write a row at the end of a file of rows."""
    with path.open("a", encoding="utf-8") as file:
        print(json.dumps(row), file=file, flush=True)
    print(json.dumps(row), flush=True)


def search_all(args: argparse.Namespace) -> None:
    """Search what has no row yet."""
    args.out.mkdir(parents=True, exist_ok=True)
    if not (args.out / "images.npz").exists():
        write_random_weights(args.out)
        write_images(args.data, args.out / "images.npz")
    path = args.out / "searched.jsonl"
    for number in args.only or range(STUDIES):
        if f"study{number:02}" not in rows_of(path):
            add_row(path, search(number, args.checkpoints.resolve(), args.out.resolve()))


def again_all(args: argparse.Namespace) -> None:
    """Certify again what was exported so many hours ago or earlier, and has not been since."""
    path = args.out / "again.jsonl"
    for row in rows_of(args.out / "searched.jsonl").values():
        done = rows_of(path).get(row["study"], {"hours": 0.0})["hours"] >= args.after
        if "within" in row and not done and time.time() - row["time"] >= args.after * HOUR:
            add_row(path, again(row, args.out))


def print_table(args: argparse.Namespace) -> None:
    """Markdown: a row a study, with what its winner takes by its certificate, and by the last one."""
    later = rows_of(args.out / "again.jsonl")
    print("| network | operators | agent | budget, batch | certified | again | hours later |\n|" + " --- |" * 7)
    for row in sorted(rows_of(args.out / "searched.jsonl").values(), key=lambda row: str(row["study"])):
        limit = f"{row['percent']} % on {row['backend']}, {row['batch']}"
        first = _share(row) if "ratio" in row else row["search"]["said"][-1].rpartition("Error: ")[2]
        cells = [row["network"], ", ".join(row["space"]), row["agent"], limit, first]
        second = later.get(row["study"])
        cells += ["", ""] if second is None else [_share(second), f"{second['hours']:.1f}"]
        print("| " + " | ".join(cells) + " |")


def _share(row: dict[str, Any]) -> str:
    ratio, noisy = row["ratio"], ", noisy" if row["noise"] else ""
    over = "" if row["within"] else " **over**" if ratio["low"] > row["limit"]["value"] else " not certified"
    return f"{ratio['value']:.1%} ({ratio['low']:.1%} to {ratio['high']:.1%}{noisy}){over}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    runs = {"search": search_all, "one": search_one, "again": again_all, "table": print_table}
    for name, run in runs.items():
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        if name == "search":
            command.add_argument("checkpoints", type=Path)
            command.add_argument("data", type=Path)
            command.add_argument("--only", nargs="+", type=int)
        if name == "one":
            command.add_argument("file", type=Path)
        if name == "again":
            command.add_argument("--after", metavar="HOURS", type=float, default=1.0)
        command.add_argument("out", type=Path)
    args = parser.parse_args()
    chosen: Callable[[argparse.Namespace], None] = args.run
    chosen(args)


if __name__ == "__main__":
    main()
