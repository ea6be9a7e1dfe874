"""The rows of an experiment: a line of JSON each, written as soon as it is there, so that none is made twice."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def rows_of(path: Path) -> list[Row]:
    """Those that are there; none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def add_row(path: Path, row: Row) -> None:
    """Write one more."""
    with path.open("a") as file:
        print(json.dumps(row), file=file)


def mean_of(values: Sequence[float]) -> str:
    """The mean, and the standard deviation if there are several, with two digits."""
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"
