"""Episodes a minute, against the reference procedure: `python experiments/cost/run.py STUDY.yaml --data-root DIR`.

In one process on one thread, policy after policy: the reference procedure, our trial with the recipe of the reference
(magnitude, least squares, nothing recalibrated) on the same validation images without a race, the same on fewer images
with one, and our trial as a search runs it. Random policies on the budget. Writes a JSON file with every time and
reward, and prints the table.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from scipy.stats import spearmanr

from agents.random_search import random_point
from automl.config.evaluation import EvaluationOptions
from automl.config.study import StudyConfig
from automl.evaluation import Evaluator
from automl.fast.precision import fast
from automl.fit.recalibration import recalibrate
from automl.study.provenance import code_version
from automl.study.setup import Setup
from automl.tasks.batches import Batch
from experiments.cost.reference import BATCH, IMAGES, reward
from search_spaces import Point

VALIDATION = 5000


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study")
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--policies", type=int, default=50)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = StudyConfig.from_file(args.study)
    data = replace(config.data, root=args.data_root, validation_size=VALIDATION, calibration_size=IMAGES)
    setup = Setup(replace(config, data=data, runner=replace(config.runner, threads=1)))
    problem, space = setup.problem, setup.space
    train = rebatched(problem.calibration)
    few = replace(problem, validation=problem.validation[: -(-2000 // 250)])
    same = EvaluationOptions(importance="magnitude", recalibration="none", race=0.0)
    raced = replace(same, race=config.evaluation.race)
    ours = {
        "same recipe, same images": Evaluator(problem, space, same, setup.limits, 1, config.goal),
        "same recipe, raced": Evaluator(few, space, raced, setup.limits, 1, config.goal),
        "as searched": Evaluator(few, space, config.evaluation, setup.limits, 1, config.goal),
    }
    prepared = {}
    for name, evaluator in ours.items():
        began = time.perf_counter()
        evaluator.prepare()
        prepared[name] = time.perf_counter() - began
    rng = np.random.default_rng(0)
    rows: list[dict[str, float]] = []
    best: dict[str, tuple[float, Point | None]] = dict.fromkeys(ours, (-np.inf, None))
    for policy in range(args.policies):
        point = random_point(space, setup.limits, rng)
        began = time.perf_counter()
        row = {"reference": reward(space, point, train, problem.validation, policy)}
        row["reference_s"] = time.perf_counter() - began
        for name, evaluator in ours.items():
            outcome = evaluator(point, best[name][1])  # a rival only matters where there is a race
            row[name], row[f"{name}_s"] = outcome.values["accuracy"], outcome.wall_s
            utility = config.goal.utility(outcome.values[config.goal.metric])
            if outcome.state == "done" and utility > best[name][0]:
                best[name] = (utility, point)
        rows.append(row)
        print(policy, {key: round(value, 4) for key, value in row.items()}, flush=True)
        parts = where_time_goes(ours["as searched"], point)
        record = {"code": code_version(), "study": args.study, "prepared_s": prepared, "rows": rows, "parts_ms": parts}
        args.out.write_text(json.dumps(record, indent=1))
    print(summary(rows, list(ours)))


def rebatched(batches: list[Batch]) -> list[Batch]:
    """The same samples, `BATCH` at a time, as the released code has them."""
    return [
        (tuple(x[i : i + BATCH] for x in inputs), targets[i : i + BATCH])
        for inputs, targets in batches
        for i in range(0, len(targets), BATCH)
    ]


def where_time_goes(evaluator: Evaluator, point: Point) -> dict[str, float]:
    """Milliseconds that each part of one trial takes, all validation samples included."""
    parts, last = {}, time.perf_counter()

    def tick(name: str) -> None:
        nonlocal last
        now = time.perf_counter()
        parts[name], last = 1000 * (now - last), now

    builder = evaluator._builder
    plan = builder.plan(point)
    network = builder.space.build(plan).eval()
    tick("surgery")
    builder._reconstruction.apply(network, builder.space.slices(plan))
    tick("least squares")
    recalibrate(network, builder._recalibration, evaluator._dtype)
    tick("batch norms")
    evaluator.counts(network)
    tick("counting")
    fast(network, evaluator._dtype)
    tick("folding and fusing")
    evaluator._judge.score(network)
    tick("that again, and all images")
    return parts


def summary(rows: list[dict[str, float]], names: list[str]) -> str:
    """Median seconds, ratios, rank correlations."""
    reference = [row["reference_s"] for row in rows]
    lines = [f"reference: median {median(reference):.2f} s an episode, {60 / np.mean(reference):.2f} a minute"]
    for name in names:
        seconds = [row[f"{name}_s"] for row in rows]
        rank = spearmanr([row["reference"] for row in rows], [row[name] for row in rows]).statistic
        ratio = np.mean(reference) / np.mean(seconds)
        lines.append(
            f"{name}: median {median(seconds):.3f} s, {60 / np.mean(seconds):.0f} a minute, {ratio:.0f} times as many; "
            f"rank correlation with the reference {rank:.3f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
