"""The rows of an experiment: a line of JSON each, written as soon as it is there, so that none is made twice."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

Row = dict[str, Any]


def rows_of(path: Path) -> list[Row]:
    """Those that are there; none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def add_row(path: Path, row: Row) -> None:
    """Write one more."""
    with path.open("a") as file:
        print(json.dumps(row), file=file)


def run_grid(
    about: str | None,
    path: Path,
    names: Sequence[str],
    wanted: Callable[[Sequence[int]], Sequence[tuple[Any, ...]]],
    making: Callable[[str | None], Callable[..., Row]],
    shown: Callable[[Sequence[Row]], str],
) -> None:
    """Make the rows of an experiment that are not there yet, as its command line says, on one thread, and print them.

    `names`: the keys by which a row is known. `wanted`: (seeds) -> their values in all rows. `making`: (folder of the
    data) -> what makes a row of such values; called where one is missing. `shown`: the tables of all rows.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--data-root")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    known = {tuple(row[name] for name in names) for row in rows_of(path)}
    left = [] if args.table else [key for key in wanted(args.seeds) if key not in known]
    if left:
        made = making(args.data_root)
        for key in left:
            add_row(path, made(*key))
            print(rows_of(path)[-1], flush=True)
    print(shown(rows_of(path)))


def mean_of(values: Sequence[float]) -> str:
    """The mean, and the standard deviation if there are several, with two digits."""
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"
