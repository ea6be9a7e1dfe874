"""Tables of architectures that others trained, read from their CSV files as spaces of choices.

| table | networks | what a file holds |
| --- | --- | --- |
| NAS-Bench-Macro (Su et al. 2021, arXiv 2103.11922; Apache-2.0) | 3^8 | CIFAR-10, three full trainings of each |
| NAS-Bench-201 (Dong & Yang 2020, arXiv 2001.00326; MIT), trained for 12 epochs | 5^6 | validation and test |

Search on one column and report another: `Table.goal` is on the former, and the latter is among the values. Of Macro the
best hundredth differ by less than their trainings do, so a search that reports what it searched on reports luck.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from agents import Goal
from automl.benchmark.tabular import Coverage, Table
from automl.errors import TableError
from search_spaces import AdditiveSpace, Knob

SEARCHED, REPORTED = "searched", "reported"
"""The columns of such a table: what an agent is told of a network, and what is reported of the one it found."""

MACRO_BLOCKS = ("identity", "mobile_e3_k3", "mobile_e6_k5")
"""What each of the eight layers of NAS-Bench-Macro may be: none, or an inverted residual."""

EDGES = ("0-1", "0-2", "1-2", "0-3", "1-3", "2-3")
"""Of a cell of NAS-Bench-201, in the order of its names."""
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""What each may do."""


def nas_bench_macro(path: str | Path, run: int = 1) -> Table:
    """NAS-Bench-Macro: searched on training `run` (1 to 3), reported by the mean of the other two.

    The file has columns arch (eight digits), acc_run1 to acc_run3, params, macs. `TableError` if it has not, or if its
    costs are not sums over layers.
    """
    if run not in (1, 2, 3):
        raise TableError(f"expected run 1, 2 or 3 of NAS-Bench-Macro, got {run!r}")
    runs = [f"acc_run{i}" for i in (1, 2, 3)]
    columns = _read(path, ["arch", *runs, "params", "macs"])
    rows = np.array([[int(digit) for digit in name] for name in columns["arch"]])
    knobs = [_choice(f"layer{t}", MACRO_BLOCKS) for t in range(rows.shape[1])]
    trained = np.array([[float(value) for value in columns[name]] for name in runs])
    costs = {metric: np.array([float(value) for value in columns[metric]]) for metric in ("macs", "params")}
    values = {SEARCHED: trained[run - 1], REPORTED: np.delete(trained, run - 1, axis=0).mean(axis=0)}
    return _table(additive(knobs, rows, costs), rows, values, {"table": "NAS-Bench-Macro", "run": run})


def nas_bench_201(path: str | Path, data: str = "cifar10") -> Table:
    """NAS-Bench-201 after 12 epochs: searched on validation, reported on test images of `data`.

    The file has columns cellstr, DATA-val and DATA-test; `data` is cifar10, cifar100 or imagenet (16 x 16, 120 of it).
    Costs, which are not in the file, are those of the networks for CIFAR-10: 15 cells of 16, 32 and 64 channels.
    """
    columns = _read(path, ["cellstr", f"{data}-val", f"{data}-test"])
    rows = np.array([_operations(cell) for cell in columns["cellstr"]])
    values = {SEARCHED: columns[f"{data}-val"], REPORTED: columns[f"{data}-test"]}
    floats = {name: np.array([float(value) for value in column]) for name, column in values.items()}
    return _table(space_201(), rows, floats, {"table": "NAS-Bench-201, 12 epochs", "data": data})


def space_201() -> AdditiveSpace:
    """The cells of NAS-Bench-201 with the costs of their networks for images of 32 x 32 in 10 classes.

    Five cells at each of 16, 32 and 64 channels on maps of 32, 16 and 8: a convolution takes as many MACs in each.
    """
    squares = 5 * sum(width**2 for width in (16, 32, 64))
    norms = 2 * 5 * (16 + 32 + 64)
    macs = 15 * (16 * 32) ** 2
    params = [0, 0, squares + norms, 9 * squares + norms, 0]
    edges = [_choice(f"edge{edge}", OPERATIONS) for edge in EDGES]
    parts = {"macs": [np.array([0, 0, macs, 9 * macs, 0])] * len(edges), "params": [np.array(params)] * len(edges)}
    return AdditiveSpace(edges, {"macs": 7_783_040, "params": 73_306}, parts)


def additive(knobs: Sequence[Knob], rows: np.ndarray, costs: Mapping[str, np.ndarray]) -> AdditiveSpace:
    """The space of `knobs` whose costs are sums over them, found from those of all networks.

    Args:
        rows: positions of levels, a row a network, every one of them once: [n, n_knobs].
        costs: metric -> cost of each network: [n].

    `TableError` if the rows are not all or a cost is no sum.
    """
    place = {tuple(row): i for i, row in enumerate(rows.tolist())}
    n_all = int(np.prod([len(knob.levels) for knob in knobs]))
    if len(place) != n_all or len(rows) != n_all:
        raise TableError(f"expected each of {n_all:,} networks once, got {len(place):,} in {len(rows):,} rows")
    first = place[(0,) * len(knobs)]
    parts: dict[str, list[np.ndarray]] = {}
    for metric, cost in costs.items():
        parts[metric] = []
        for t, knob in enumerate(knobs):
            alone = [place[(*(0,) * t, i, *(0,) * (len(knobs) - t - 1))] for i in range(len(knob.levels))]
            parts[metric].append(cost[alone] - cost[first])
        summed = cost[first] + sum(part[rows[:, t]] for t, part in enumerate(parts[metric]))
        if not np.array_equal(summed, cost):
            worst = int(np.argmax(np.abs(summed - cost)))
            raise TableError(f"expected {metric} to be a sum over knobs, but at {rows[worst].tolist()} it is none")
    return AdditiveSpace(knobs, {metric: float(cost[first]) for metric, cost in costs.items()}, parts)


def _choice(name: str, labels: Sequence[str]) -> Knob:
    return Knob(name, tuple(range(len(labels))), "choice", kind="choice", labels=tuple(labels))


def _table(
    space: AdditiveSpace, rows: np.ndarray, values: Mapping[str, np.ndarray], provenance: Mapping[str, str | int]
) -> Table:
    columns = {name: column.astype(np.float32) for name, column in values.items()}
    return Table(space, rows.astype(np.uint8), columns, Goal(SEARCHED, "maximize"), Coverage(), provenance=provenance)


def _operations(cell: str) -> list[int]:
    """The operation of each edge of a cell's name, such as `|nor_conv_3x3~0|+|skip_connect~0|none~1|+...`."""
    names = [part.split("~")[0] for node in cell.split("+") for part in node.strip("|").split("|")]
    unknown = [name for name in names if name not in OPERATIONS]
    if unknown or len(names) != len(EDGES):
        raise TableError(f"expected a cell of {len(EDGES)} operations out of {', '.join(OPERATIONS)}, got {cell!r}")
    return [OPERATIONS.index(name) for name in names]


def _read(path: str | Path, needed: Sequence[str]) -> dict[str, list[str]]:
    """The columns `needed` of a CSV file, which may be compressed (.gz)."""
    try:
        with gzip.open(path, "rt") if str(path).endswith(".gz") else Path(path).open() as file:
            rows = list(csv.DictReader(file))
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"cannot read a table from {path}: {error}") from error
    missing = [name for name in needed if not rows or name not in rows[0]]
    if missing:
        raise TableError(f"expected a table with columns {', '.join(needed)} in {path}, but {missing[0]} is not there")
    return {name: [row[name] for row in rows] for name in needed}
