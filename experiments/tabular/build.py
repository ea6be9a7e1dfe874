"""Evaluate every Point of a coarse grid within a budget, and write the table.

    python experiments/tabular/build.py experiments/cifar10_resnet/resnet20.yaml --steps 4 --budget "macs <= 50%" \
        --data-root DATA --workers 2 --out experiments/tabular/resnet20.npz

Every 50 Points are appended to a file beside the table (`.jsonl`), so that a run that was killed goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import pickle
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

from agents import TrialState
from automl.benchmark import Coverage, Table
from automl.benchmark.grid import choices
from automl.config.runner import RunnerConfig
from automl.config.study import StudyConfig
from automl.evaluation import Evaluator
from automl.measures.counts import COUNTED
from automl.study.provenance import code_version, environment
from automl.study.setup import Setup
from automl.util.duration import duration

CHUNK = 50
_evaluator: Evaluator


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="study file: network, data, space, evaluation")
    parser.add_argument("--out", type=Path, required=True, help="the table, .npz")
    parser.add_argument("--steps", type=int, required=True, help="widths of each group")
    parser.add_argument("--budget", action="append", help="instead of the study's")
    parser.add_argument("--above", type=float, default=0.0, metavar="PART", help="leave out what costs less of a limit")
    parser.add_argument("--full", action="store_true", help="only Points that use the budget up: no knob can rise")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--count", action="store_true", help="only say how many Points there are")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = arguments(argv)
    config = StudyConfig.from_file(args.study)
    config = replace(
        config,
        space=replace(config.space, channels=replace(config.space.channels, steps=args.steps)),
        budget=tuple(args.budget or config.budget),
        data=replace(config.data, root=str(args.data_root.resolve())) if args.data_root else config.data,
        runner=RunnerConfig(threads=1),
    )
    setup = Setup(config)
    above = {metric: args.above * limit for metric, limit in setup.limits.items()} if args.above else {}
    coverage = Coverage(setup.limits, above, args.full)
    wanted = list(choices(setup.space, coverage.within, coverage.above, full=coverage.full))
    print(f"{len(wanted):,} Points with {coverage}", flush=True)
    if args.count:
        return
    log = args.out.with_suffix(".jsonl")
    known = read(log, setup)
    missing = [levels for levels in wanted if levels not in known]
    setup.evaluator.prepare()
    evaluate_all(setup.evaluator, missing, log, args.workers)
    worth = read(log, setup)
    values = {setup.space.point(levels): worth[levels] for levels in wanted}
    table = Table.make(
        setup.space,
        values,
        config.goal,
        coverage,
        metrics=[metric for metric in setup.space.metrics if metric in COUNTED],
        sensitivity=setup.evaluator.sensitivity(),
        provenance=provenance(setup),
    )
    table.save(args.out)
    failed = sum(value is None for value in values.values())
    print(f"{args.out}: {len(table):,} Points ({failed} failed), {args.out.stat().st_size:,} bytes")


def header(setup: Setup) -> dict[str, Any]:
    """What has to be the same for values to belong together."""
    described = setup.to_record()
    knobs = [[knob.name, list(knob.levels)] for knob in setup.space.knobs]
    return {"network": described["network"], "knobs": knobs, "evaluation": described["evaluation"]} | {
        key: value for key, value in described["data"].items() if key != "root"
    }


def read(log: Path, setup: Setup) -> dict[tuple[int, ...], dict[str, float] | None]:
    """Levels -> values, None for an evaluation that failed. A last line cut off by a kill is removed."""
    if not log.exists():
        log.write_text(json.dumps(header(setup)) + "\n")
    whole = log.read_bytes()
    kept = whole[: whole.rfind(b"\n") + 1]
    if len(kept) < len(whole):
        with log.open("r+b") as file:
            file.truncate(len(kept))
    first, *lines = kept.decode().splitlines()
    if json.loads(first) != header(setup):
        raise SystemExit(f"{log} is of another network, grid or evaluation: remove it or choose another --out")
    return {tuple(levels): values for levels, values in map(json.loads, lines)}


def evaluate_all(evaluator: Evaluator, missing: Sequence[tuple[int, ...]], log: Path, workers: int) -> None:
    started, done = time.monotonic(), 0
    with log.open("a") as file:
        for results in chunks(evaluator, missing, workers):
            file.writelines(json.dumps(result) + "\n" for result in results)
            file.flush()
            os.fsync(file.fileno())
            done += len(results)
            left = (time.monotonic() - started) / done * (len(missing) - done)
            print(f"{done:,} of {len(missing):,}, about {duration(left)} left", flush=True)


def chunks(evaluator: Evaluator, missing: Sequence[tuple[int, ...]], workers: int) -> Iterator[list[Any]]:
    """The results of `CHUNK` Points at a time, in the order in which they are ready."""
    parts = (missing[start : start + CHUNK] for start in range(0, len(missing), CHUNK))
    if workers == 1:
        remember(pickle.dumps(evaluator))
        yield from map(evaluate, parts)
        return
    context = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads in whatever state
    with ProcessPoolExecutor(workers, context, remember, (pickle.dumps(evaluator),)) as pool:
        running: set[Future[list[Any]]] = {pool.submit(evaluate, part) for part in islice(parts, 2 * workers)}
        while running:
            ready, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(evaluate, part) for part in islice(parts, len(ready))}
            for future in ready:
                yield future.result()


def remember(pickled: bytes) -> None:
    """Pickled by hand: left to multiprocessing, every tensor would travel as an open file."""
    global _evaluator
    _evaluator = pickle.loads(pickled)


def evaluate(part: Sequence[tuple[int, ...]]) -> list[Any]:
    return [(levels, worth(levels)) for levels in part]


def worth(levels: tuple[int, ...]) -> dict[str, float] | None:
    """What one Point is worth; its counted costs must be those that the space predicts."""
    space = _evaluator.space
    point = space.point(levels)
    outcome = _evaluator(point)
    if outcome.state is not TrialState.DONE:
        print(f"{levels}: {outcome.state}: {outcome.reason}", flush=True)
        return None
    values = outcome.values
    for metric in ("macs", "params"):
        if values[metric] != space.cost(point, metric):
            raise SystemExit(f"{levels}: {metric} counted {values[metric]}, predicted {space.cost(point, metric)}")
    return {metric: value for metric, value in values.items() if metric not in COUNTED}


def provenance(setup: Setup) -> dict[str, Any]:
    described = setup.to_record()
    data = {key: value for key, value in described["data"].items() if key != "root"}
    return {
        "study": setup.config.name,
        "model": setup.config.model.name,
        "network": described["network"],
        "data": data,
        "space": described["space"],
        "evaluation": asdict(setup.config.evaluation),
        "budget": setup.config.parsed_budget.text,
        "original": setup.without_limits()(setup.space.original_point).values,
        "code_version": code_version(),
        "environment": environment(setup.threads),
    }


if __name__ == "__main__":
    main()
