"""Lines of a file of studies, which is somebody else's: what they may hold before any of it is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol, get_args

import sqlalchemy as sa

from agents import TrialState
from automl.store import schema
from automl.store.errors import StoreError
from automl.store.records import Sense
from automl.types import Phase
from search_spaces import Point

MOST_GB = 1.0
"""How many gigabytes a file may come to when it is unpacked, unless more are asked for."""
LONGEST_LINE = 2**26
"""How many bytes a line may have: a study's whole configuration, or all that was measured of one trial."""
_CHUNK = 2**20


class Unpacked(Protocol):
    """A file that is unpacked while it is read."""

    def read(self, size: int, /) -> bytes:
        """The next bytes."""

    def readline(self, size: int, /) -> bytes:
        """The next line, or as much of it."""


OMITTED = {
    schema.study: ("id", "seal", "objective", "direction"),
    schema.trial: ("id", "study_id", "repeat_of", "projected"),
    schema.measurement: ("id", "trial_id"),
    schema.attempt: ("id", "trial_id"),
    schema.artifact: ("id", "study_id", "trial_id"),
    schema.conclusion: ("id", "study_id", "trial_id"),
    schema.rule: ("id", "conclusion_id"),
}
"""Table -> columns that a file does not have: a database's own, or made when the file is read."""
WITHIN = {
    schema.trial: ("measurements", "ended", "repeat_of"),
    schema.artifact: ("trial",),
    schema.conclusion: ("trial", "rules"),
}
"""Table -> parts of its lines that are no columns as they stand."""


def require_small(read: Unpacked, file: str, most_gb: float) -> None:
    """Raise `StoreError` if a file comes to more than `most_gb` when it is unpacked, before anything is kept of it."""
    size = 0
    while chunk := read.read(_CHUNK):
        size += len(chunk)
        if size > most_gb * 1e9:
            raise StoreError(
                f"{file} comes to more than {most_gb:g} GB when it is unpacked, and nothing of it was imported. If you "
                f"know whom it is from, allow it more: --most-gb {max(1, round(8 * most_gb))}"
            )


def next_line(read: Unpacked, file: str) -> bytes:
    """The next line, empty at the end; `StoreError` if it is longer than any line is."""
    line = read.readline(LONGEST_LINE + 1)
    if len(line) > LONGEST_LINE:
        raise StoreError(f"{file} has a line of more than {LONGEST_LINE:,} bytes. Nothing of it was imported")
    return line


def parsed(line: bytes) -> dict[str, Any]:
    """A line as JSON; a `ValueError` if it is no object, or holds NaN, which is no JSON."""
    try:
        read = json.loads(line, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("a line is nested too deeply") from None
    if not isinstance(read, dict):
        raise ValueError(f"a line is no object: {read!r:.80}")
    return read


def require_fitting(table: sa.Table, values: Any) -> None:
    """Raise `ValueError` unless `values` are those of a line about a row of `table`: no others, of the right types.

    What is missing the database says.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"expected the values of a {table.name}, got {values!r:.80}")
    columns = {column.name: column for column in table.c if column.name not in OMITTED[table]}
    for key, value in values.items():
        if key in WITHIN.get(table, ()):
            continue
        if key not in columns:
            raise ValueError(f"a {table.name} has no {key!r:.80}")
        if value is not None and not _fits(columns[key], value):
            raise ValueError(f"{key} of a {table.name} cannot be {value!r:.80}")
    if table in (schema.measurement, schema.rule):
        Phase(values["phase"])
    if table is schema.rule and values["sense"] not in get_args(Sense):
        raise ValueError(f"sense of a rule cannot be {values['sense']!r:.80}")
    if table is schema.trial:
        TrialState(values["state"])
        if Point.from_json(values["point"]).key != values["point_key"]:
            raise ValueError(f"the key of a trial is not that of its point: {values['point_key']!r:.80}")


_KINDS: dict[type, Callable[[Any], bool]] = {
    schema.UTCDateTime: lambda value: isinstance(value, str),
    sa.JSON: lambda value: isinstance(value, Mapping),
    sa.Boolean: lambda value: isinstance(value, bool),
    sa.Integer: lambda value: isinstance(value, int) and not isinstance(value, bool),
    sa.Float: lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    sa.String: lambda value: isinstance(value, str),
}
"""Type of a column -> whether a value as JSON has it may stand there. SQLite alone would take anything."""


def _fits(column: sa.Column[Any], value: Any) -> bool:
    wanted = column.type
    if isinstance(wanted, sa.String) and wanted.length is not None and isinstance(value, str):
        return len(value) <= wanted.length
    return next(fits for kind, fits in _KINDS.items() if isinstance(wanted, kind))(value)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")
