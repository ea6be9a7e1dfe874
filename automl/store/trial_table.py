"""The trials of a study as a table, and the formats in which it is written."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from automl.errors import ConfigError, ExportError
from automl.store.store import Store, open_store
from automl.store.trial_query import chosen, column_named
from automl.store.trial_rows import Row, TrialRows, recorded_trials
from automl.util.columns import fitted, terminal_width
from automl.util.names import nearest

if TYPE_CHECKING:
    import pandas as pd

READABLE = ("agent", "seed", "number", "state")
"""The columns that a table for reading begins with; those that say how and when come last."""
LAST = ("wall_s", "started", "reason")
TEXT = ("agent", "state", "reason", "started")
TIMES = ("started", "finished")


def read_trials(storage: str | Path, study: str, *, where: str | None = None, sort: str | None = None) -> pd.DataFrame:
    """The trials of a recorded study as a DataFrame, one row a trial: see `frame`.

    `storage`: the database's URL, or the path of an SQLite file. `where`, `sort`: as of `automl trials`.
    `StoreError`, `StudyNotFoundError`, `ConfigError`.
    """
    with open_store(storage, create=False) as store:
        return frame(store, study, where, sort)


def frame(store: Store, name: str, where: str | None = None, sort: str | None = None) -> pd.DataFrame:
    """The trials of the study `name`, one row a trial, by (agent, seed, number) unless `sort` says otherwise.

    Columns: what every trial has (`started` and `finished` in UTC), then each metric (its last step, NaN where it
    was not measured), then each knob (`recorded_trials`). `StudyNotFoundError` if there is no such study.
    """
    return _frame(chosen(recorded_trials(store, name), where, sort))


def _frame(trials: TrialRows) -> pd.DataFrame:
    import pandas as pd

    table = pd.DataFrame(list(trials.rows), columns=list(trials.columns))
    floats = dict.fromkeys(["wall_s", *trials.metrics, *trials.knobs], "float64")
    integers = {"seed": "int64", "number": "int64", "finish_order": "Int64"}
    times = dict.fromkeys(TIMES, "datetime64[us, UTC]")
    return table.astype({**floats, **integers, **times, "repeated": "bool"})


def write_trials(
    trials: TrialRows, format: str, out: str | Path | None = None, columns: Sequence[str] | None = None
) -> None:
    """Write trials to the file `out`, or to standard output.

    "table" is for reading and leaves out knobs and what is empty; "csv", "json" (a list of objects) and "parquet" are
    complete, unless `columns` names those that are wanted. `ConfigError` for another format or column, `ExportError`
    if the file cannot be written.
    """
    writers: dict[str, Callable[[TrialRows, Sequence[str] | None], bytes]] = {
        "table": lambda t, c: readable(t, c, terminal_width() if out is None else None).encode(),
        "csv": lambda t, c: _csv(t, c or t.columns),
        "json": lambda t, c: _json(t, c or t.columns),
        "parquet": lambda t, c: bytes(_frame(t)[list(c or t.columns)].to_parquet(index=False)),
    }
    if format not in writers:
        raise ConfigError(f"no format {format!r} for trials{nearest(format, writers)}")
    wanted = None if columns is None else [column_named(column, trials.columns) for column in columns]
    content = writers[format](trials, wanted)
    if out is not None:
        try:
            Path(out).write_bytes(content)
        except OSError as error:
            raise ExportError(f"cannot write {out}: {error.strerror}. Name a writable file with --out") from error
        return
    if format == "parquet" and sys.stdout.isatty():
        raise ConfigError("a parquet file is not for a terminal. Name a file with --out")
    sys.stdout.flush()
    stream: BinaryIO = sys.stdout.buffer
    stream.write(content)
    stream.flush()


def _csv(trials: TrialRows, columns: Sequence[str]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(_plain(trials.rows, columns))
    return text.getvalue().encode()


def _json(trials: TrialRows, columns: Sequence[str]) -> bytes:
    # One encoder for all rows and no checks for cycles: half a million levels are written in the time of a glance.
    encode = json.JSONEncoder(ensure_ascii=False, check_circular=False).encode
    lines = ",\n".join([encode(dict(zip(columns, row, strict=True))) for row in _plain(trials.rows, columns)])
    return f"[\n{lines}\n]\n".encode()


def _plain(rows: Sequence[Row], columns: Sequence[str]) -> Iterator[list[Any]]:
    """What stands in `columns` of each row, times as text."""
    times = [place for place, column in enumerate(columns) if column in TIMES]
    for row in rows:
        values: list[Any] = [row.get(column) for column in columns]
        for place in times:
            values[place] = values[place] and values[place].isoformat()
        yield values


def readable(trials: TrialRows, columns: Sequence[str] | None = None, width: int | None = None) -> str:
    """Trials in lines of at most `width`: numbers rounded, with their standard errors; what is missing left blank.

    Of columns that are not named those are left out in which nothing stands.
    """
    if columns is None:
        offered = (*READABLE, *trials.metrics, *LAST)
        columns = [c for c in offered if c in READABLE or any(row.get(c) is not None for row in trials.rows)]
    lines = [list(columns)]
    for row, spreads in zip(trials.rows, trials.spreads, strict=True):
        lines.append([_cell(row.get(column), spreads.get(column)) for column in columns])
    left = [i for i, column in enumerate(columns) if column in TEXT]
    return fitted(lines, width, left) + "\n"


def _cell(value: Any, spread: float | None) -> str:
    """Counts whole and in groups of three, anything else to four digits, with its spread to two."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat(" ", "seconds")[:19]
    if isinstance(value, float):
        text = f"{value:,.0f}" if value.is_integer() and abs(value) >= 1000 else f"{value:.4g}"
        return text if spread is None else f"{text} ±{spread:.2g}"
    return str(value)
