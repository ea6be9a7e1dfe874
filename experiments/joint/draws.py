"""The allocation of a study, fitted over several draws of its calibration images: the mean, and how far draws differ.

    python -m experiments.joint.draws STUDY.yaml --data-root DATA --out ROWS.jsonl [--draws 0 1 2]
        [--fits sequential blockwise] [--budgets "macs <= 50%" "macs <= 33.3%"] [--set space.rank.scheme=cp]

A draw is the study's `data.split_seed`: which training images serve for calibration, and which for validation. On each
the error curves are built, one allocation for each budget is made by them, and the network is fitted layer by layer
(`sequential`), or tuned block by block after that (`blockwise`, what `automl finish --reconstruction blockwise` does).
`--budgets` and `--set` change what the study file says. All 10,000 test images are looked at once for each network. A
row is written as soon as it is there, and those that are there are not made again; at the end the rows of these
settings are summed up.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from agents.allocation import Allocator
from automl.config.budget import parse_budget
from automl.config.study import StudyConfig
from automl.errors import BudgetError
from automl.measures.counts import excess
from automl.study.setup import Setup
from search_spaces import Point
from search_spaces.codecs.packing import pack

Row = dict[str, Any]
SUMMED = ("accuracy", "macs", "params", "bops", "packed_bytes", "seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--draws", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--fits", nargs="+", default=["sequential"], choices=["sequential", "blockwise"])
    parser.add_argument("--budgets", nargs="+", default=[])
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = {"study": arguments.study.name, "set": sorted(arguments.set)}
    for draw in arguments.draws:
        changes = [*arguments.set, f"data.root={arguments.data_root}", f"data.split_seed={draw}"]
        config = changed(arguments.study, changes)
        budgets = arguments.budgets or [config.parsed_budget.text]
        there = rows_of(arguments.out, {**settings, "draw": draw})
        missing = [
            (budget, fit)
            for budget in budgets
            for fit in arguments.fits
            if not any(row["budget"] == budget and row["fit"] == fit for row in there)
        ]
        points = {row["budget"]: row["point"] for row in there}
        for row in fitted(config, missing, points) if missing else ():
            row = {**settings, "draw": draw, **row}
            with arguments.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print({key: value for key, value in row.items() if key != "point"}, flush=True)
    for budget in budgets:
        for fit in arguments.fits:
            found = rows_of(arguments.out, {**settings, "budget": budget, "fit": fit})
            draws = [row["draw"] for row in found]
            print(f"{budget}, {fit}, draws {draws}: " + ", ".join(summed_up(found)))


def changed(study: Path, changes: Sequence[str]) -> StudyConfig:
    """The study file with some of its values replaced, each `KEY.OF.A.SECTION=VALUE`."""
    settings = yaml.safe_load(study.read_text())
    for change in changes:
        keys, _, value = change.partition("=")
        *sections, last = keys.split(".")
        section = settings
        for key in sections:
            section = section.setdefault(key, {})
        section[last] = yaml.safe_load(value)
    return StudyConfig.from_dict(settings, folder=study.parent)


def fitted(
    config: StudyConfig, wanted: Sequence[tuple[str, str]], points: dict[str, Mapping[str, int]]
) -> Iterator[Row]:
    """A row for each budget and way to fit. `points`: the allocations that are known, by budget; all, in the end."""
    setup = Setup(config)
    space, evaluator, test = setup.space, setup.evaluator, setup.problem.test()
    evaluator.prepare()
    for budget, fit in wanted:
        limits = parse_budget(budget).limits({metric: space.original_cost(metric) for metric in space.metrics})
        started = time.process_time()
        if budget not in points:
            points[budget] = Allocator(space, limits, evaluator.sensitivity()).plain()
        allocating, started = time.process_time() - started, time.process_time()
        finisher = evaluator.reporting(fit)
        network = finisher.network(Point(dict(points[budget])))
        seconds = time.process_time() - started
        counts = finisher.counts(network)
        if over := excess(counts, limits):
            raise BudgetError(f"the network exceeds its budget: {over}")
        size = len(pack({key: tensor.clone() for key, tensor in network.state_dict().items()}))
        measured = {m.metric: m.value for m in (*finisher.measure(network, test), *counts)}
        times = {"seconds": round(seconds, 1), "allocating": round(allocating, 1)}
        yield {"budget": budget, "fit": fit, **measured, "packed_bytes": size, **times, "point": dict(points[budget])}


def summed_up(rows: Sequence[Row]) -> Iterator[str]:
    """Mean and standard deviation of what is interesting of some rows."""
    for key in SUMMED:
        values = [float(row[key]) for row in rows if key in row]
        if values:
            spread = statistics.stdev(values) if len(values) > 1 else float("nan")
            yield f"{key} {statistics.mean(values):.6g} ± {spread:.2g}"


def rows_of(path: Path, wanted: Mapping[str, Any]) -> list[Row]:
    """The rows of these settings that are there already."""
    lines = path.read_text().splitlines() if path.exists() else []
    rows = [json.loads(line) for line in lines]
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


if __name__ == "__main__":
    main()
