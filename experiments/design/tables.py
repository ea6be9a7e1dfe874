"""Judge agents on tables of architectures that others trained: searched on one training, reported by others.

    python experiments/design/tables.py run macro predictor --tables DIR --seeds 100 --out experiments/design/tables
    python experiments/design/tables.py show --out experiments/design/tables

`run` writes a line of JSON a seed to OUT/TABLE-AGENT.jsonl as it goes, and goes on where it was stopped. `show` prints
means, medians and one-sided Mann-Whitney tests of the first agent against each other one. DIR holds the CSV files.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import mannwhitneyu

from agents import Trial
from agents.bayesian import Columns, Regression
from agents.predictor import warped
from automl.benchmark import Table, nas_bench_201, nas_bench_macro, play

TRIALS = 100
AFTER = (20, 50, 100)
TOP = 0.001
"""The part of all networks within the limits that counts as the top."""

TABLES = ("macro", "macro-50m", "201")
AGENTS = ("predictor", "random", "local_search", "evolution", "controller", "tpe")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "show"))
    parser.add_argument("table", nargs="?", choices=TABLES)
    parser.add_argument("agents", nargs="*")
    parser.add_argument("--tables", type=Path)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--out", type=Path, default=Path("experiments/design/tables"))
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.command == "show":
        print("\n".join(line for name in TABLES for line in shown(name, args.out)))
        return
    table = opened(args.table, args.tables)
    for name in args.agents:
        run(table, name, range(args.first, args.first + args.seeds), args.out / f"{args.table}-{name}.jsonl")


def opened(name: str, folder: Path) -> Table:
    """One of `TABLES`."""
    if name == "201":
        return nas_bench_201(folder / "nas-bench-201-12-epochs.csv.gz")
    table = nas_bench_macro(folder / "nas-bench-macro-cifar10.csv.gz")
    return table.limited({"macs": 50e6}) if name == "macro-50m" else table


def run(table: Table, name: str, seeds: Sequence[int], path: Path) -> None:
    """A line for each seed that `path` has not."""
    done = {json.loads(line)["seed"] for line in path.read_text().splitlines()} if path.exists() else set()
    for seed in seeds:
        if seed not in done:
            with path.open("a") as file:
                file.write(json.dumps(judged(table, name, seed)) + "\n")


def judged(table: Table, name: str, seed: int) -> dict[str, Any]:
    """One search: when it was in the top, and what its best network is reported to be worth after so many trials."""
    began = time.process_time()
    trials = list(play(name, table, seed, TRIALS))
    spent, top = time.process_time() - began, table.top(TOP)
    searched = [trial.values["searched"] for trial in trials]
    return {
        "seed": seed,
        "until_top": next((i + 1 for i, value in enumerate(searched) if value >= top), None),
        "best": {n: trials[int(np.argmax(searched[:n]))].values["reported"] for n in AFTER},
        "believed": {n: believed(table, trials[:n]).values["reported"] for n in AFTER},
        "cpu_s": round(spent, 2),
    }


def believed(table: Table, trials: Sequence[Trial]) -> Trial:
    """The trial that the default agent's regression, told all of them, takes for the best: noise is averaged."""
    points = [trial.point for trial in trials]
    columns = Columns(table.space)(points)
    mean, _ = Regression(columns, warped([trial.values["searched"] for trial in trials]))(columns)
    return trials[int(np.argmax(mean))]


def shown(table: str, folder: Path) -> list[str]:
    """The rows of one table of results."""
    rows = {name: read(folder / f"{table}-{name}.jsonl") for name in AGENTS}
    rows = {name: found for name, found in rows.items() if found}
    if not rows:
        return []
    out = [f"### {table}", ""]
    out += ["| agent | seeds | reported after 20 | 50 | 100 | by regression, 50 | 100 | median trials to the top |"]
    out += ["| --- | --- | --- | --- | --- | --- | --- | --- |"]
    for name, found in rows.items():
        best, by_model = column(found, "best"), column(found, "believed")
        until = np.array([row["until_top"] or np.inf for row in found])
        median = float(np.median(until))
        cells = [f"{best[n].mean():.2f} ± {best[n].std():.2f}" for n in AFTER]
        cells += [f"{by_model[n].mean():.2f}" for n in AFTER[1:]]
        out.append(f"| {name} | {len(found)} | {' | '.join(cells)} | {f'{median:g}' if median < np.inf else '> 100'} |")
    return [*out, "", *tests(rows), ""]


def tests(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """One-sided Mann-Whitney tests of the first agent against each other one."""
    (first, own), *others = rows.items()
    lines = []
    for name, found in others:
        parts = []
        for n in AFTER[1:]:
            p = mannwhitneyu(column(own, "best")[n], column(found, "best")[n], alternative="greater").pvalue
            parts.append(f"reported after {n}: {p:.1e}")
        until = [[row["until_top"] or 10 * TRIALS for row in of] for of in (own, found)]
        parts.append(f"trials to the top: {mannwhitneyu(*until, alternative='less').pvalue:.1e}")
        lines.append(f"- {first} against {name}, p: {'; '.join(parts)}")
    return lines


def column(found: Sequence[Mapping[str, Any]], key: str) -> dict[int, np.ndarray]:
    """Trials -> the value of each seed."""
    return {n: np.array([row[key][str(n)] for row in found]) for n in AFTER}


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of one file, in the order of their seeds."""
    lines = path.read_text().splitlines() if path.exists() else []
    return sorted((json.loads(line) for line in lines), key=lambda row: row["seed"])


if __name__ == "__main__":
    main()
