"""Studies as a file that any database of ours takes in: lines of JSON, compressed. And a copy of an SQLite file in use.

The first line says what the file is; then each study is followed by its trials, in the order in which they were opened,
each with its measurements and attempts, by its artifacts, and by what it concluded; the last line counts the lines
before it and has their SHA-256. Ids are a database's own and are left out, so that two databases which hold the same
write the same bytes. What is derived (Optuna's tables) or of the moment (who drives a study) is left out too. The first
line names the version of the tables that the file was written from, so that one of an earlier version is migrated as it
is read.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import sqlite3
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from automl.errors import AutomlError
from automl.store import schema, sqlite_files
from automl.store.errors import StoreError, StudyExistsError, StudyNotFoundError
from automl.store.foreign_lines import MOST_GB, OMITTED, WITHIN, next_line, parsed, require_fitting, require_small
from automl.store.prefixes import phase_and_metric
from automl.store.rows import goal_columns, require_readable
from automl.store.seals import unsealed
from automl.store.store import Store
from automl.util.file_names import file_name
from automl.util.files import replacing

FORMAT = "automl-compress studies"
FORMAT_VERSION = 1
_BATCH = 500  # trials held in memory at a time
_OWNED = {schema.measurement: "measurements", schema.attempt: "ended"}  # table -> its rows in a trial's line


def export_studies(store: Store, file: str | Path, names: Sequence[str] = ()) -> list[str]:
    """Write the studies `names`, or all there are, to `file`; the names of those written.

    One state of the database, whatever is written to it meanwhile; a study may be running. A file of that name is
    replaced once the new one is whole. `StudyNotFoundError`, `StoreError`.
    """
    chosen = [store.study(name) for name in names] if names else store.studies()
    with (
        replacing(Path(file), "the studies to", StoreError) as partial,
        partial.open("wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=0) as out,
        store.database.read() as connection,
    ):
        digest, count = hashlib.sha256(), 0
        for line in lines(connection, [study.id for study in chosen]):
            text = (json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n").encode()
            digest.update(text)
            out.write(text)
            count += 1
        out.write((json.dumps({"end": count, "sha256": digest.hexdigest()}) + "\n").encode())
    return [study.name for study in chosen]


def import_studies(
    store: Store,
    file: str | Path,
    rename: Mapping[str, str] | None = None,
    *,
    check: Callable[[Mapping[str, Any]], object] = lambda config: None,
    most_gb: float = MOST_GB,
) -> list[str]:
    """Record the studies of a file that `export_studies` wrote, all or none; their names here.

    They are not sealed: they count as from elsewhere. `rename`: name in the file -> name here. `check`: raises for a
    configuration that cannot be one. `most_gb`: how much the file may come to, in gigabytes. `StudyExistsError` if a
    name is taken, `StoreError` if the file is damaged, too large or of another kind, `StudyNotFoundError` if it lacks a
    study that is to be renamed.
    """
    rename = dict(rename or {})
    try:
        with gzip.open(file, "rb") as read:
            require_small(read, str(file), most_gb)
        with gzip.open(file, "rb") as read, store.database.write() as connection:
            taken = Import(connection, store.name, rename, check=check)
            for line in _checked(read, str(file)):
                taken.take(line)
            taken.finish()
    except (
        OSError,
        EOFError,
        zlib.error,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        ArithmeticError,
        SQLAlchemyError,
    ) as error:
        if isinstance(error, AutomlError):
            raise
        said = str(error).partition("\n")[0]  # the database adds its statement below
        detail = error.strerror if isinstance(error, OSError) and error.strerror else f"{type(error).__name__}: {said}"
        raise StoreError(
            f"{file} cannot be imported, and nothing of it was: {detail}. Expected a file of `automl db export`"
        ) from error
    return list(taken.names)


def backup_sqlite(store: Store, file: str | Path) -> None:
    """Copy an SQLite database that may be in use to `file`, which must not exist. `StoreError`.

    One state of it, compact, as durable as the disk. A server has tools of its own, and `export_studies`.
    """
    target = Path(file)
    if not store.database.is_sqlite:
        raise StoreError(f"{store.name} is no SQLite file. Use `automl db export`, or PostgreSQL's own pg_dump")
    if target.exists():
        raise StoreError(f"{target} exists already and is left as it is. Name a new file")
    with store.database.engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        sqlite_files.copy(driver, target, "the copy")


def lines(connection: sa.Connection, studies: Sequence[int]) -> Iterator[dict[str, Any]]:
    """The lines of a file but for the last."""
    yield {"format": FORMAT, "version": FORMAT_VERSION, "schema": schema.SCHEMA_VERSION}
    for study_id in studies:
        row = connection.execute(sa.select(schema.study).where(schema.study.c.id == study_id)).one()
        yield {"study": _plain(row, OMITTED[schema.study])}
        yield from _trial_lines(connection, study_id)
        query = sa.select(schema.artifact).where(schema.artifact.c.study_id == study_id).order_by(schema.artifact.c.id)
        for artifact in connection.execute(query).all():
            trial = None if artifact.trial_id is None else _lane_place(connection, artifact.trial_id)
            yield {"artifact": {**_plain(artifact, OMITTED[schema.artifact]), "trial": trial}}
        yield from _conclusion_lines(connection, study_id)


def _conclusion_lines(connection: sa.Connection, study_id: int) -> Iterator[dict[str, Any]]:
    c, r = schema.conclusion.c, schema.rule.c
    for row in connection.execute(sa.select(schema.conclusion).where(c.study_id == study_id).order_by(c.id)).all():
        rules = connection.execute(sa.select(schema.rule).where(r.conclusion_id == row.id).order_by(r.id))
        line = _plain(row, OMITTED[schema.conclusion]) | {"trial": _lane_place(connection, row.trial_id)}
        yield {"conclusion": {**line, "rules": [_plain(rule, OMITTED[schema.rule]) for rule in rules]}}


def _trial_lines(connection: sa.Connection, study_id: int) -> Iterator[dict[str, Any]]:
    last = -1
    while True:
        trial = schema.trial.c
        batch = sa.select(schema.trial).where(trial.study_id == study_id, trial.id > last).order_by(trial.id)
        rows = connection.execute(batch.limit(_BATCH)).all()
        if not rows:
            return
        last = rows[-1].id
        ids = [row.id for row in rows]
        measurements, attempts = (_owned(connection, table, ids) for table in (schema.measurement, schema.attempt))
        for row in rows:
            line = _plain(row, OMITTED[schema.trial])
            line["repeat_of"] = None if row.repeat_of is None else _lane_place(connection, row.repeat_of)
            yield {"trial": {**line, "measurements": measurements[row.id], "ended": attempts[row.id]}}


def _owned(connection: sa.Connection, table: sa.Table, trials: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    """What each of the trials has in a table of its own, in the order in which it was written."""
    found = defaultdict(list)
    for row in connection.execute(sa.select(table).where(table.c.trial_id.in_(trials)).order_by(table.c.id)):
        found[row.trial_id].append(_plain(row, OMITTED[table]))
    return found


def _lane_place(connection: sa.Connection, trial_id: int) -> list[Any]:
    """What names a trial within its study: [agent, seed, number]."""
    trial = schema.trial.c
    return list(connection.execute(sa.select(trial.agent, trial.seed, trial.number).where(trial.id == trial_id)).one())


def _plain(row: Any, without: Sequence[str]) -> dict[str, Any]:
    """A row as JSON has it."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in row._mapping.items()
        if name not in without
    }


def _checked(read: Any, file: str) -> Iterator[dict[str, Any]]:
    """The lines of a file but for the first and last, as this version writes them.

    `StoreError` unless those say that it is whole and ours.
    """
    digest, count = hashlib.sha256(), 0
    head = next_line(read, file)
    header = parsed(head)
    if header.get("format") != FORMAT:
        raise StoreError(f"{file} is not a file of `automl db export`")
    if header["version"] > FORMAT_VERSION or header["schema"] > schema.SCHEMA_VERSION:
        raise StoreError(f"{file} was written by a newer automl-compress. Import it with that one")
    while head:
        digest.update(head)
        count += 1
        head = next_line(read, file)
        line = parsed(head) if head else {}
        if "end" in line:
            if line != {"end": count, "sha256": digest.hexdigest()}:
                raise StoreError(f"{file} is damaged: its checksum does not fit. Nothing of it was imported")
            return
        if head:
            yield _migrated(line, header["schema"])
    raise StoreError(f"{file} ends too early. Nothing of it was imported")


def _migrated(line: dict[str, Any], version: int) -> dict[str, Any]:
    """A line of a file from tables of `version` as one from today's."""
    if version < 3 and "trial" in line:
        for measured in line["trial"]["measurements"]:
            measured["phase"], measured["metric"] = phase_and_metric(measured["metric"])
    return line


class Import:
    """Takes the lines of a file in their order and writes them, trials in batches.

    `seal` gives the seal of a study by its name and configuration, `check` raises for a configuration that cannot be.
    """

    def __init__(
        self,
        connection: sa.Connection,
        database: str,
        rename: Mapping[str, str],
        *,
        seal: Callable[[str, Mapping[str, Any]], str | None] = unsealed,
        check: Callable[[Mapping[str, Any]], object] = lambda config: None,
    ) -> None:
        self.names: list[str] = []
        self._seal = seal
        self._check = check
        self._connection = connection
        self._database = database
        self._rename = dict(rename)
        self._study = -1
        self._trials: list[dict[str, Any]] = []
        self._ids: dict[tuple[Any, ...], int] = {}  # (agent, seed, number) -> id here, of the study under way
        self._repeats: dict[tuple[Any, ...], list[Any]] = {}

    def take(self, line: Mapping[str, Any]) -> None:
        """The next line."""
        ((kind, values),) = line.items()
        if kind == "trial":
            require_fitting(schema.trial, values)
            for table, owned in _OWNED.items():
                for row in values[owned]:
                    require_fitting(table, row)
            self._trials.append(values)
            if len(self._trials) == _BATCH:
                self._write_trials()
        elif kind == "artifact":
            self._take_row(schema.artifact, values)
        elif kind == "conclusion":
            for rule in values["rules"]:
                require_fitting(schema.rule, rule)
            made = self._take_row(schema.conclusion, values)
            self._insert(schema.rule, [{**rule, "conclusion_id": made} for rule in values["rules"]])
        elif kind == "study":
            self._end_study()
            self._begin_study(values)
        else:
            raise StoreError(f"a line of the file is about {kind!r}, which this automl-compress does not know")

    def finish(self) -> None:
        """There are no more lines."""
        self._end_study()
        if self._rename:
            raise StudyNotFoundError(f"the file has no study {next(iter(self._rename))!r} to be renamed")

    def _begin_study(self, values: dict[str, Any]) -> None:
        name = file_name(self._rename.pop(values["name"], values["name"]), StoreError)
        require_fitting(schema.study, {**values, "name": name})
        if self._connection.scalar(sa.select(schema.study.c.id).where(schema.study.c.name == name)) is not None:
            raise StudyExistsError(
                f"there is a study {name!r} in {self._database}, and nothing was imported. Give the one in the file "
                f"another name: --rename {values['name']}=OTHER"
            )
        config = values["config"]
        config = {**config, "name": name} if "name" in config else config
        require_readable(config)
        self._check(config)
        row = {**values, "name": name, "config": config, "seal": self._seal(name, config), **goal_columns(config)}
        (self._study,) = self._insert(schema.study, [row])
        self.names.append(name)

    def _end_study(self) -> None:
        self._write_trials()
        trial = schema.trial
        for place, of in self._repeats.items():  # now that all are there: a trial may repeat a later one
            repeat = trial.update().where(trial.c.id == self._ids[place]).values(repeat_of=self._ids[tuple(of)])
            self._connection.execute(repeat)
        self._ids, self._repeats = {}, {}

    def _take_row(self, table: sa.Table, values: Mapping[str, Any]) -> int:
        """Insert what a study has beside its trials, and which may belong to one of them; its id here."""
        require_fitting(table, values)
        self._write_trials()
        trial = None if values["trial"] is None else self._ids[tuple(values["trial"])]
        row = {key: value for key, value in values.items() if key not in WITHIN[table]}
        (made,) = self._insert(table, [{**row, "study_id": self._study, "trial_id": trial}])
        return made

    def _write_trials(self) -> None:
        if not self._trials:
            return
        rows = []
        for values in self._trials:
            row = {key: value for key, value in values.items() if key not in WITHIN[schema.trial]}
            rows.append({**row, "study_id": self._study})
            if values["repeat_of"] is not None:
                self._repeats[values["agent"], values["seed"], values["number"]] = values["repeat_of"]
        ids = self._insert(schema.trial, rows)
        self._ids.update(((row["agent"], row["seed"], row["number"]), key) for row, key in zip(rows, ids, strict=True))
        for table, owned in _OWNED.items():
            pairs = zip(ids, self._trials, strict=True)
            self._insert(table, [{**row, "trial_id": key} for key, values in pairs for row in values[owned]])
        self._trials = []

    def _insert(self, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> Sequence[int]:
        """Insert rows of a file, in their order; their ids."""
        if not rows:
            return []
        times = [column.name for column in table.c if isinstance(column.type, schema.UTCDateTime)]
        read = [
            {key: datetime.fromisoformat(v) if key in times and v is not None else v for key, v in row.items()}
            for row in rows
        ]
        insert = table.insert().returning(table.c.id, sort_by_parameter_order=True)
        return self._connection.scalars(insert, read).all()
