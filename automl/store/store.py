"""`Store`: studies, trials, measurements and artifacts in SQL. The driver is its only writer."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from agents import TrialState
from automl._names import nearest
from automl.store import schema
from automl.store.engine import Database
from automl.store.errors import StoreError, StudyExistsError, StudyNotFoundError
from automl.store.records import DIAGNOSTIC, ArtifactRecord, StudyRecord, TrialRecord
from automl.types import Measurement, Outcome
from search_spaces import Point


def open_store(url: str | Path, *, create: bool = True, timeout_s: float = 30.0) -> Store:
    """Open the database at `url`: "sqlite:///study.db", "postgresql+psycopg://..." or the path of an SQLite file.

    With `create` the tables (and the SQLite file) are made where there are none; without it their absence is an
    error, for commands that only read. A lock is waited for up to `timeout_s` seconds.
    `StoreError`, with the remedy, if the database cannot be used or belongs to another program.
    """
    return Store(Database(url, create=create, timeout_s=timeout_s))


class Store:
    """The record of every study. Opening and closing a trial are one short transaction each.

    Every method raises `StoreError`, with the remedy, if the database is locked, full, read-only or gone.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def url(self) -> str:
        """The URL with which the database can be opened again, its password included."""
        return self._database.url.render_as_string(hide_password=False)

    @property
    def name(self) -> str:
        """The URL without its password, for messages."""
        return self._database.name

    def close(self) -> None:
        """Close every connection; an SQLite file is then a single file again."""
        self._database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- studies ---------------------------------------------------------------------------------------------------

    def create_study(
        self, name: str, config: Mapping[str, Any], *, code_version: str, environment: Mapping[str, Any]
    ) -> StudyRecord:
        """Record a new study; `StudyExistsError` if there is one of this name.

        `config` and `environment` hold what JSON has. The projection and `frame` read `config["knobs"]`, a list of
        `{"name", "levels", "unit"}`, `config["goal"]`, `{"metric", "direction"}`, and `config["limits"]`,
        `{metric: limit}`.
        """
        if not name.strip() or len(name) > schema.STUDY_NAME_LENGTH:
            raise StoreError(f"a study's name has 1 to {schema.STUDY_NAME_LENGTH} characters, got {name!r}")
        values = {
            "name": _text(name),
            "config": _plain(config),
            "code_version": _text(code_version),
            "environment": _plain(environment),
            "created": _now(),
        }
        try:
            with self._database.write() as connection:
                row = connection.execute(schema.study.insert().values(values).returning(schema.study)).one()
        except IntegrityError as error:
            raise StudyExistsError(
                f"there is a study {name!r} in {self.name}. Go on with `automl resume {name}`, or give the new one "
                f"another name"
            ) from error
        return StudyRecord(**row._mapping)

    def study(self, name: str) -> StudyRecord:
        """The study of this name; `StudyNotFoundError` offers the nearest name."""
        with self._database.read() as connection:
            row = connection.execute(sa.select(schema.study).where(schema.study.c.name == _text(name))).one_or_none()
            names = [] if row else list(connection.scalars(sa.select(schema.study.c.name)))
        if row:
            return StudyRecord(**row._mapping)
        hint = nearest(name, names) if names else ": it has none yet. Start one with `automl search`"
        raise StudyNotFoundError(f"no study {name!r} in {self.name}{hint}")

    def studies(self) -> list[StudyRecord]:
        """All studies, the oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(schema.study).order_by(schema.study.c.id)).all()
        return [StudyRecord(**row._mapping) for row in rows]

    # -- trials ----------------------------------------------------------------------------------------------------

    def open_trial(self, study_id: int, agent: str, seed: int, number: int, point: Point) -> TrialRecord:
        """Record that trial `number` of the lane (`agent`, `seed`) is now being tried.

        `StoreError` if the lane has this number already: another driver runs the same lane.
        """
        values = {
            "study_id": study_id,
            "agent": agent,
            "seed": seed,
            "number": number,
            "point": point.to_json(),
            "point_key": point.key,
            "state": TrialState.RUNNING.value,
            "started": _now(),
        }
        try:
            with self._database.write() as connection:
                row = connection.execute(schema.trial.insert().values(values).returning(schema.trial)).one()
        except IntegrityError as error:
            with self._database.read() as connection:
                self._require(connection, schema.study, study_id)
            raise StoreError(
                f"trial {number} of {agent}/{seed} is already recorded in study {study_id} of {self.name}: another "
                f"process runs it. Wait for that one, or stop it and go on with `automl resume`"
            ) from error
        return _trial_record(row, ())

    def reopen_trial(self, trial_id: int) -> TrialRecord:
        """Record that a trial left running by a dead driver is handed out again: started now, one attempt more."""
        with self._database.write() as connection:
            self._require_running(connection, trial_id)
            trial = schema.trial.c
            connection.execute(
                schema.trial.update().where(trial.id == trial_id).values(started=_now(), attempts=trial.attempts + 1)
            )
            return self._trials(connection, trial.id == trial_id)[0]

    def close_trial(self, trial_id: int, outcome: Outcome, *, repeat_of: int | None = None) -> TrialRecord:
        """Record how a running trial ended, its measurements, and its place in the lane's order of finishing.

        `repeat_of` is the id of the trial whose measurements answered it. `StoreError` if it is closed already.
        """
        if not outcome.state.finished:
            raise StoreError(f"a trial closes done, stopped, infeasible or failed, got {outcome.state.value!r}")
        trial = schema.trial.c
        with self._database.write() as connection:
            self._lock_study_of(connection, trial_id)
            row = self._require_running(connection, trial_id)
            if repeat_of is not None:
                self._require(connection, schema.trial, repeat_of)
            lane = (trial.study_id == row.study_id) & (trial.agent == row.agent) & (trial.seed == row.seed)
            last = connection.scalar(sa.select(sa.func.max(trial.finish_order)).where(lane)) or 0
            connection.execute(
                schema.trial.update()
                .where(trial.id == trial_id)
                .values(
                    state=outcome.state.value,
                    reason=None if outcome.reason is None else _text(outcome.reason),
                    finished=_now(),
                    wall_s=_finite(outcome.wall_s, "wall_s"),
                    finish_order=last + 1,
                    repeat_of=repeat_of,
                )
            )
            _insert_measurements(connection, trial_id, outcome.measurements)
            return self._trials(connection, trial.id == trial_id)[0]

    def trial(self, trial_id: int) -> TrialRecord:
        """One trial by its id."""
        with self._database.read() as connection:
            self._require(connection, schema.trial, trial_id)
            return self._trials(connection, schema.trial.c.id == trial_id)[0]

    def trials(self, study_id: int, *, agent: str | None = None, seed: int | None = None) -> list[TrialRecord]:
        """The trials of a study, or of one agent or lane of it, by (agent, seed, number)."""
        with self._database.read() as connection:
            self._require(connection, schema.study, study_id)
            return self._trials(connection, _within(study_id, agent, seed))

    def running(self, study_id: int, *, agent: str | None = None, seed: int | None = None) -> list[TrialRecord]:
        """Those of `trials` that were opened and not closed: under way, or left behind by a dead driver."""
        with self._database.read() as connection:
            self._require(connection, schema.study, study_id)
            still = schema.trial.c.state == TrialState.RUNNING.value
            return self._trials(connection, _within(study_id, agent, seed) & still)

    def find_done(self, study_id: int, point_key: str) -> TrialRecord | None:
        """The first trial of the study, in any lane, that is done at the Point with this key."""
        trial = schema.trial.c
        first = (
            sa.select(sa.func.min(trial.id))
            .where(trial.study_id == study_id, trial.point_key == point_key, trial.state == TrialState.DONE.value)
            .scalar_subquery()
        )
        with self._database.read() as connection:
            return next(iter(self._trials(connection, trial.id == first)), None)

    def add_measurements(self, trial_id: int, measurements: Sequence[Measurement]) -> None:
        """Add to what is known of a trial, also after it has finished."""
        with self._database.write() as connection:
            self._require(connection, schema.trial, trial_id)
            _insert_measurements(connection, trial_id, measurements)

    def add_diagnostics(self, trial_id: int, diagnostics: Mapping[str, float]) -> None:
        """Record what an agent tells of itself once it has learnt from a trial, as measurements `agent/<name>`."""
        self.add_measurements(trial_id, [Measurement(DIAGNOSTIC + name, value) for name, value in diagnostics.items()])

    def claim_projection(self, trial_id: int, lease: timedelta) -> bool:
        """Whether this process may now copy the trial into Optuna's tables.

        A driver and a dashboard may find the same trial missing there at once, and what is in those tables twice
        cannot be removed. A claim lasts for `lease`, so that one who died after it delays the copy only.
        """
        trial = schema.trial.c
        free = trial.projected.is_(None) | (trial.projected < _now() - lease)
        with self._database.write() as connection:
            claim = schema.trial.update().where((trial.id == trial_id) & free).values(projected=_now())
            return connection.execute(claim).rowcount == 1

    def release_projection(self, trial_id: int) -> None:
        """Give a claim up after a copy that failed."""
        with self._database.write() as connection:
            connection.execute(schema.trial.update().where(schema.trial.c.id == trial_id).values(projected=None))

    # -- artifacts -------------------------------------------------------------------------------------------------

    def add_artifact(
        self, study_id: int, trial_id: int | None, kind: str, path: str | Path, sha256: str
    ) -> ArtifactRecord:
        """Record a file that came of a study (`trial_id` None) or of one of its trials."""
        values = {
            "study_id": study_id,
            "trial_id": trial_id,
            "kind": kind,
            "path": _text(str(path)),
            "sha256": sha256,
            "created": _now(),
        }
        with self._database.write() as connection:
            self._require(connection, schema.study, study_id)
            if trial_id is not None:
                self._require(connection, schema.trial, trial_id)
            row = connection.execute(schema.artifact.insert().values(values).returning(schema.artifact)).one()
        return ArtifactRecord(**row._mapping)

    def artifacts(self, study_id: int) -> list[ArtifactRecord]:
        """The artifacts of a study and of its trials, the oldest first."""
        query = sa.select(schema.artifact).where(schema.artifact.c.study_id == study_id).order_by(schema.artifact.c.id)
        with self._database.read() as connection:
            self._require(connection, schema.study, study_id)
            return [ArtifactRecord(**row._mapping) for row in connection.execute(query)]

    # -- within a transaction --------------------------------------------------------------------------------------

    def _trials(self, connection: sa.Connection, where: sa.ColumnElement[bool]) -> list[TrialRecord]:
        """The trials by (agent, seed, number), in two queries however many there are."""
        trial, m = schema.trial.c, schema.measurement.c
        rows = connection.execute(sa.select(schema.trial).where(where)).all()
        query = sa.select(schema.measurement).join(schema.trial, trial.id == m.trial_id).where(where).order_by(m.id)
        measurements = defaultdict(list)
        for row in connection.execute(query):
            measurements[row.trial_id].append(
                Measurement(row.metric, row.value, row.unit, row.n, row.spread, row.device, row.step)
            )
        rows = sorted(rows, key=lambda row: (row.agent, row.seed, row.number))  # here: SQL sorts text by locale
        return [_trial_record(row, measurements[row.id]) for row in rows]

    def _require(self, connection: sa.Connection, table: sa.Table, key: int) -> Any:
        """The row with this id."""
        row = connection.execute(sa.select(table).where(table.c.id == key)).one_or_none()
        if row is None:
            raise StoreError(f"{self.name} has no {table.name} with id {key}")
        return row

    def _require_running(self, connection: sa.Connection, trial_id: int) -> Any:
        row = self._require(connection, schema.trial, trial_id)
        if row.state != TrialState.RUNNING.value:
            raise StoreError(
                f"trial {row.number} of {row.agent}/{row.seed} in {self.name} is closed already ({row.state}), "
                f"since {row.finished:%Y-%m-%d %H:%M:%S} UTC. If another process runs the study, stop one of them"
            )
        return row

    def _lock_study_of(self, connection: sa.Connection, trial_id: int) -> None:
        """Close one trial of a study at a time, so that no place in a lane's order is given twice.

        SQLite, which has no such lock and ignores it, holds the write lock already.
        """
        trial = schema.trial.c
        connection.execute(
            sa.select(schema.study.c.id)
            .join(schema.trial, trial.study_id == schema.study.c.id)
            .where(trial.id == trial_id)
            .with_for_update(of=schema.study, key_share=True)
        )


def _now() -> datetime:
    return datetime.now(UTC)


def _within(study_id: int, agent: str | None, seed: int | None) -> sa.ColumnElement[bool]:
    where = schema.trial.c.study_id == study_id
    if agent is not None:
        where &= schema.trial.c.agent == agent
    if seed is not None:
        where &= schema.trial.c.seed == seed
    return where


def _trial_record(row: Any, measurements: Sequence[Measurement]) -> TrialRecord:
    return TrialRecord(
        id=row.id,
        study_id=row.study_id,
        agent=row.agent,
        seed=row.seed,
        number=row.number,
        point=Point.from_json(row.point),
        state=TrialState(row.state),
        reason=row.reason,
        started=row.started,
        finished=row.finished,
        wall_s=row.wall_s,
        finish_order=row.finish_order,
        repeat_of=row.repeat_of,
        measurements=tuple(m for m in measurements if not m.metric.startswith(DIAGNOSTIC)),
        attempts=row.attempts,
        diagnostics={
            m.metric.removeprefix(DIAGNOSTIC): m.value for m in measurements if m.metric.startswith(DIAGNOSTIC)
        },
    )


def _insert_measurements(connection: sa.Connection, trial_id: int, measurements: Sequence[Measurement]) -> None:
    rows = [
        {
            "trial_id": trial_id,
            "metric": m.metric,
            "step": int(m.step),
            "value": _finite(m.value, m.metric),
            "unit": m.unit,
            "n": int(m.n),
            "spread": None if m.spread is None else _finite(m.spread, f"the spread of {m.metric}"),
            "device": m.device,
        }
        for m in measurements
    ]
    if rows:
        connection.execute(schema.measurement.insert(), rows)


def _finite(value: float, name: str) -> float:
    """A plain float (drivers take no NumPy scalars); NaN and infinity never enter."""
    number = float(value)
    if not math.isfinite(number):
        raise StoreError(f"{name} must be finite to be recorded, got {number}. Leave out what could not be measured")
    return number


def _text(text: str) -> str:
    """Text that every database takes: an error message may hold NUL or halves of surrogate pairs."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON has, and nothing else."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(values), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise StoreError(
            f"expected values that JSON has (text, finite numbers, lists, dicts), got {values!r:.200}: {error}"
        ) from error
    return plain
