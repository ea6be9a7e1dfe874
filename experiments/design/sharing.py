"""How a supernet ranks networks that cost about the same, beside how training them alone ranks them.

    python experiments/design/sharing.py run fashion_mnist kinds single_path --data-root DIR
    python experiments/design/sharing.py run digits sizes sandwich
    python experiments/design/sharing.py show

20 networks within one window of multiply-accumulates. Each is trained alone twice, with two seeds, which says how well
such a training ranks networks at all. `kinds` are three kinds of block, `sizes` residual blocks alone, of which width,
depth and kernel are chosen, as they are there. What is measured is appended to `sharing.jsonl`, and not measured again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from automl.config.study import StudyConfig
from automl.evaluation import Evaluator
from automl.sharing.subnets import SubnetBuilder
from automl.sharing.supernet_training import train_supernet
from automl.study.provenance import code_version
from automl.study.rank_check import rank_correlation, window
from automl.study.setup import Setup
from search_spaces import supernet

HERE = Path(__file__).resolve().parent
RECORD = HERE / "sharing.jsonl"
NETWORKS = 20
SPACES = {
    "kinds": {"kinds": ["residual", "separable", "mobile"]},
    "sizes": {"kinds": ["residual"]},
}
DATA: dict[str, dict[str, Any]] = {
    "fashion_mnist": {"budget": "macs <= 300k", "validation": 5000, "epochs": 1, "samples": 8_000},
    "digits": {"budget": "macs <= 60k", "validation": 500, "epochs": 8, "samples": None},
}
COMMON = {"widths": [4, 6, 8, 12, 16], "kernels": [3, 5], "depths": [1, 2, 3], "first_reduce": ["stride"]}
FORM = {"precision": "float32", "channels_last": True}
SEEDS = (0, 1)


def setup_of(data: str, space: str, rule: str, seconds: float, root: str) -> Setup:
    """The study of a space."""
    of = DATA[data]
    settings = {
        "name": space,
        "data": {"name": data, "root": root, "validation_size": of["validation"], "calibration_size": 256},
        "space": {"cells": {**COMMON, **SPACES[space]}},
        "budget": [of["budget"]],
        "evaluation": {
            "training": {"epochs": of["epochs"], "samples": of["samples"], "batch_size": 64, **FORM},
            "supernet": {
                "rule": rule,
                "training": {"epochs": 1000, "seconds": seconds, "batch_size": 64, "clip": 5.0, **FORM},
            },
        },
    }
    return Setup(StudyConfig.from_dict(settings, folder=HERE), say=print)


def alone(setup: Setup, seed: int) -> list[dict[str, float]]:
    """Accuracy and seconds of each network of the window, trained by itself with this seed."""
    training = setup.config.evaluation.training
    assert training is not None
    options = replace(setup.config.evaluation, training=replace(training, seed=seed), supernet=None)
    judge = Evaluator(
        setup.problem, setup.space, options, setup.limits, setup.threads, builder=setup.evaluator._builder
    )
    return judged(setup, judge)


def judged(setup: Setup, judge: Evaluator) -> list[dict[str, float]]:
    """Accuracy and seconds of each network of the window."""
    judge.prepare()
    found = []
    for point in window(setup.space, setup.limits, NETWORKS, "macs"):
        outcome = judge(point)
        costs = {name: outcome.values[name] for name in ("accuracy", "macs", "params")}
        found.append({**costs, "s": outcome.wall_s})
    return found


def shared(setup: Setup) -> dict[str, Any]:
    """The same with the weights of a supernet that is trained now, and its seconds."""
    options = setup.config.evaluation.supernet
    assert options is not None
    weights = supernet(setup.space)
    weights.shown = setup.reference
    history = train_supernet(
        weights, setup.problem, setup.limits, options, setup.evaluator.training_time, say=lambda text: print(text)
    )
    builder = SubnetBuilder(setup.space, setup.reference, weights, options.recalibration)
    own = replace(setup.config.evaluation, training=None, supernet=None, race=0.0)
    judge = Evaluator(setup.problem, setup.space, own, setup.limits, setup.threads, builder=builder)
    samples = sum(epoch.samples for epoch in history.epochs)
    loss = history.epochs[-1].loss
    return {"networks": judged(setup, judge), "training_s": history.wall_s, "samples": samples, "loss": loss}


def known(part: str) -> Any:
    """What is on record of a part; None if nothing."""
    rows = [json.loads(line) for line in RECORD.read_text().splitlines()] if RECORD.exists() else []
    return next((row["found"] for row in rows if row["part"] == part), None)


def measured(part: str, measure: Callable[[], Any]) -> None:
    """Measure a part, unless it is on record, and put it there."""
    if known(part) is not None:
        return
    start, cpu = time.perf_counter(), time.process_time()
    found = measure()
    took = {"wall_s": round(time.perf_counter() - start, 1), "cpu_s": round(time.process_time() - cpu, 1)}
    with RECORD.open("a") as file:
        file.write(json.dumps({"part": part, "commit": code_version(), **took, "found": found}) + "\n")
    print(part, took)


def show() -> None:
    """Print the table."""
    rows = [json.loads(line) for line in RECORD.read_text().splitlines()]
    print("| space | beside networks trained alone | Spearman, seed 0 | seed 1 | seconds | accuracy |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        space, _, what = row["part"].partition("/")
        first, second = (known(f"{space}/alone-{seed}") for seed in SEEDS)
        if what == f"alone-{SEEDS[0]}":
            for cost in ("macs", "params"):
                by = [each[cost] for each in first]
                print(f"| {space} | {cost} | {_of(by, first)} | {_of(by, second)} | 0 | |")
            print(f"| {space} | alone, seed 0 | 1 | {_of(_accuracy(first), second)} | {_s(row)} | {_range(first)} |")
        elif not what.startswith("alone"):
            own = row["found"]["networks"]
            against = (_of(_accuracy(own), one) for one in (first, second))
            print(f"| {space} | {what} | {' | '.join(against)} | {_s(row)} | {_range(own)} |")


def _accuracy(found: list[dict[str, float]]) -> list[float]:
    return [each["accuracy"] for each in found]


def _of(values: list[float], found: list[dict[str, float]] | None) -> str:
    return "" if found is None else f"{rank_correlation(values, _accuracy(found)):.2f}"


def _s(row: dict[str, Any]) -> str:
    return f"{row['cpu_s']:.0f}"


def _range(found: list[dict[str, float]]) -> str:
    return f"{min(_accuracy(found)):.1%} to {max(_accuracy(found)):.1%}"


def main() -> None:
    """Measure a part, or show what has been measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("run", "show"))
    parser.add_argument("data", nargs="?", choices=DATA)
    parser.add_argument("space", nargs="?", choices=SPACES)
    parser.add_argument("rule", nargs="?", choices=("single_path", "sandwich"))
    parser.add_argument("--seconds", type=float, default=120.0, help="of the supernet's training, as predicted")
    parser.add_argument("--data-root", default="data")
    args = parser.parse_args()
    if args.what == "show":
        show()
        return
    torch.set_num_threads(1)
    setup = setup_of(args.data, args.space, args.rule, args.seconds, args.data_root)
    for seed in SEEDS:
        measured(f"{args.data} {args.space}/alone-{seed}", lambda seed=seed: alone(setup, seed))
    measured(f"{args.data} {args.space}/{args.rule}-{args.seconds:g}", lambda: shared(setup))


if __name__ == "__main__":
    main()
