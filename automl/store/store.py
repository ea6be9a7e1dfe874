"""`Store`: studies, trials, measurements and artifacts in SQL. The driver is its only writer."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from agents import TrialState
from automl.store import leases, schema, seals, writes
from automl.store.engine import PATIENCE_S, Database
from automl.store.errors import StoreError, StudyExistsError, StudyNotFoundError
from automl.store.records import ArtifactRecord, AttemptRecord, StudyRecord, TrialRecord
from automl.store.rows import (
    clean,
    goal_columns,
    measurement_rows,
    now,
    plain,
    read_study,
    read_trials,
    study_record,
    trial_record,
    within,
)
from automl.types import Measurement, Outcome, Phase
from automl.util.file_names import file_name
from automl.util.names import nearest
from search_spaces import Point

logger = logging.getLogger(__name__)


def open_store(
    url: str | Path, *, create: bool = True, timeout_s: float = 30.0, patience_s: float = PATIENCE_S
) -> Store:
    """Open the database at `url`: "sqlite:///study.db", "postgresql+psycopg://..." or the path of an SQLite file.

    With `create` the tables (and the SQLite file) are made where there are none; without it their absence is an
    error, for commands that only read. Tables of an earlier version are brought up to date. A lock is waited for up
    to `timeout_s` seconds, a server that goes away while the store is open up to `patience_s`.
    `StoreError`, with the remedy, if the database cannot be used, is newer, or belongs to another program.
    """
    return Store(Database(url, create=create, timeout_s=timeout_s, patience_s=patience_s))


class Store:
    """The record of every study. Opening and closing a trial are one short transaction each.

    A process that runs trials does so within `drive`. Every method raises `StoreError`, with the remedy, if the
    database is locked, full, read-only or gone, and waits for a server that is being restarted; what it was writing
    then is written once, whether or not the server had it already.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self._tokens: dict[int, str] = {}  # study id -> what its lease must say when this store writes

    @property
    def url(self) -> str:
        """The URL with which the database can be opened again, its password included."""
        return self.database.url.render_as_string(hide_password=False)

    @property
    def name(self) -> str:
        """The URL without its password, for messages."""
        return self.database.name

    def close(self) -> None:
        """Close every connection; an SQLite file is then a single file again."""
        self.database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def drive(self, study_id: int, *, lease_s: float = leases.LEASE_S) -> Iterator[None]:
        """While it lasts, only this store opens and closes trials of the study. Within itself it changes nothing.

        `StudyBusyError` if another process drives the study. One that is known to be dead is succeeded at once, else
        when it has not been heard of for `lease_s` seconds. Should that befall this process, suspended perhaps, its
        next write raises `LeaseLostError`.
        """
        if study_id in self._tokens:
            yield
            return
        token = leases.acquire(self.database, study_id, lease_s)
        self._tokens[study_id] = token
        heartbeat = leases.Heartbeat(partial(leases.renew, self.database, study_id, token, lease_s), lease_s)
        try:
            yield
        finally:
            heartbeat.stop()
            del self._tokens[study_id]
            with suppress(StoreError):  # it ends with this process anyway
                leases.release(self.database, study_id, token)

    # -- studies ---------------------------------------------------------------------------------------------------

    def create_study(
        self, name: str, config: Mapping[str, Any], *, code_version: str, environment: Mapping[str, Any]
    ) -> StudyRecord:
        """Record a new study; `StudyExistsError` if there is one of this name.

        `config` and `environment` hold what JSON has. The projection and `frame` read `config["knobs"]`, a list of
        `{"name", "levels", "unit"}`, `config["goal"]`, `{"metric", "direction"}`, and `config["limits"]`,
        `{metric: limit}`.
        """
        values = {
            "name": file_name(name, StoreError),
            "config": plain(config),
            "seal": seals.seal(name, plain(config)),
            "code_version": clean(code_version),
            "environment": plain(environment),
            "created": now(),
            **goal_columns(config),
        }
        row = self.database.writing(
            lambda connection: writes.added(connection, schema.study, values, ("name", "created"))
        )
        if row is None:
            raise StudyExistsError(
                f"there is a study {name!r} in {self.name}. Go on with `automl resume {name}`, or give the new one "
                f"another name"
            )
        return study_record(row)

    def study(self, name: str) -> StudyRecord:
        """The study of this name; `StudyNotFoundError` offers the nearest name."""
        named = schema.study.c.name == clean(name)
        found = self.database.reading(lambda connection: read_study(connection, self.name, named))
        if found is not None:
            return found
        names = [study.name for study in self.studies()]
        hint = nearest(name, names) if names else ": it has none yet. Start one with `automl search`"
        raise StudyNotFoundError(f"no study {name!r} in {self.name}{hint}")

    def studies(self) -> list[StudyRecord]:
        """All studies, the oldest first. Of one that cannot be read it is warned, and it is left out."""

        def read(connection: sa.Connection) -> list[StudyRecord]:
            found = []
            for key in connection.scalars(sa.select(schema.study.c.id).order_by(schema.study.c.id)).all():
                try:
                    found.append(read_study(connection, self.name, schema.study.c.id == key))
                except StoreError as error:
                    logger.warning("%s", error)
            return [study for study in found if study is not None]

        return self.database.reading(read)

    # -- trials ----------------------------------------------------------------------------------------------------

    def open_trial(self, study_id: int, agent: str, seed: int, number: int, point: Point) -> TrialRecord:
        """Record that trial `number` of the lane (`agent`, `seed`) is now being tried.

        `StoreError` if the lane has this number already.
        """
        values = {
            "study_id": study_id,
            "agent": agent,
            "seed": seed,
            "number": number,
            "point": point.to_json(),
            "point_key": point.key,
            "state": TrialState.RUNNING.value,
            "started": now(),
        }

        def add(connection: sa.Connection) -> Any:
            self.check(connection, study_id)
            return writes.added(connection, schema.trial, values, ("study_id", "agent", "seed", "number", "started"))

        try:
            row = self.database.writing(add)
        except IntegrityError:  # it refers to a study that is not there
            self.database.reading(lambda connection: writes.require(connection, self.name, schema.study, study_id))
            raise
        if row is None:
            raise StoreError(
                f"trial {number} of {agent}/{seed} is already recorded in study {study_id} of {self.name}: another "
                f"process runs it. Wait for that one, or stop it and go on with `automl resume`"
            )
        return trial_record(row, ())

    def reopen_trial(self, trial_id: int) -> TrialRecord:
        """Record that a trial left running by a dead driver is handed out again: started now, one attempt more."""
        started = now()

        def reopen(connection: sa.Connection) -> TrialRecord:
            row = writes.locked(connection, self.name, trial_id)
            if row.started != started:  # else this has been done already
                self._require_running(connection, row)
                writes.end_attempt(connection, row, "the process that ran it ended", started, counted=False)
                writes.hand_out(connection, row, started)
            return read_trials(connection, schema.trial.c.id == trial_id)[0]

        return self.database.writing(reopen)

    def fail_attempt(self, trial_id: int, reason: str, *, max_attempts: int) -> TrialRecord:
        """Record that an attempt at a trial ended without an outcome, by its own fault: its worker died, hung, ...

        The trial is running again, one attempt more, or, when this was the `max_attempts`th time, closed as failed
        with the reason; the record's state tells. Attempts that ended with their driver are not held against it.
        """
        ended = now()

        def fail(connection: sa.Connection) -> TrialRecord:
            row = writes.locked(connection, self.name, trial_id)
            if ended not in (row.started, row.finished):  # else this has been done already
                self._require_running(connection, row)
                writes.end_attempt(connection, row, reason, ended, counted=True)
                a = schema.attempt.c
                counted = (a.trial_id == trial_id) & a.counted
                failures = connection.execute(sa.select(sa.func.count()).where(counted)).scalar_one()
                if failures < max_attempts:
                    writes.hand_out(connection, row, ended)
                else:
                    why = reason if failures == 1 else f"set aside after {failures} attempts, the last: {reason}"
                    return writes.close(connection, row, Outcome.failed(why), ended)
            return read_trials(connection, schema.trial.c.id == trial_id)[0]

        return self.database.writing(fail)

    def attempts(self, study_id: int) -> list[AttemptRecord]:
        """The attempts at trials of a study that ended without an outcome, in the order in which they ended."""
        trial, attempt = schema.trial.c, schema.attempt.c
        columns = [column for column in schema.attempt.c if column.name != "id"]
        query = sa.select(*columns).join(schema.trial, trial.id == attempt.trial_id).order_by(attempt.ended, attempt.id)
        rows = self.database.reading(
            lambda connection: connection.execute(query.where(trial.study_id == study_id)).all()
        )
        return [AttemptRecord(**row._mapping) for row in rows]

    def close_trial(self, trial_id: int, outcome: Outcome, *, repeat_of: int | None = None) -> TrialRecord:
        """Record how a running trial ended, its measurements, and its place in the lane's order of finishing.

        `repeat_of` is the id of the trial whose measurements answered it. `StoreError` if it is closed already.
        """
        if not outcome.state.finished:
            raise StoreError(f"a trial closes done, stopped, infeasible or failed, got {outcome.state.value!r}")
        finished = now()

        def close(connection: sa.Connection) -> TrialRecord:
            row = writes.locked(connection, self.name, trial_id)
            if row.finished == finished:  # this has been done already
                return read_trials(connection, schema.trial.c.id == trial_id)[0]
            self._require_running(connection, row)
            if repeat_of is not None:
                writes.require(connection, self.name, schema.trial, repeat_of)
            return writes.close(connection, row, outcome, finished, repeat_of)

        return self.database.writing(close)

    def trial(self, trial_id: int) -> TrialRecord:
        """One trial by its id."""

        def read(connection: sa.Connection) -> TrialRecord:
            writes.require(connection, self.name, schema.trial, trial_id)
            return read_trials(connection, schema.trial.c.id == trial_id)[0]

        return self.database.reading(read)

    def trials(self, study_id: int, *, agent: str | None = None, seed: int | None = None) -> list[TrialRecord]:
        """The trials of a study, or of one agent or lane of it, by (agent, seed, number)."""
        return self._of_study(study_id, within(study_id, agent, seed))

    def running(self, study_id: int, *, agent: str | None = None, seed: int | None = None) -> list[TrialRecord]:
        """Those of `trials` that were opened and not closed: under way, or left behind by a dead driver."""
        return self._of_study(
            study_id, within(study_id, agent, seed) & (schema.trial.c.state == TrialState.RUNNING.value)
        )

    def count_finished(self, study_id: int) -> dict[tuple[str, int], int]:
        """How many trials are closed in each lane, (agent, seed), of a study."""
        trial = schema.trial.c
        query = sa.select(trial.agent, trial.seed, sa.func.count()).group_by(trial.agent, trial.seed)
        closed = query.where(trial.study_id == study_id, trial.finish_order.is_not(None))
        rows = self.database.reading(lambda connection: connection.execute(closed).all())
        return {(agent, seed): n for agent, seed, n in sorted(map(tuple, rows))}

    def find_done(self, study_id: int, point_key: str, apart: Collection[str] = ()) -> TrialRecord | None:
        """The first trial of the study that is done at the Point with this key, in any lane but those `apart`."""
        trial = schema.trial.c
        there = (trial.study_id == study_id) & (trial.point_key == point_key) & trial.agent.not_in(apart)
        first = sa.select(sa.func.min(trial.id)).where(there, trial.state == TrialState.DONE.value)

        def find(connection: sa.Connection) -> TrialRecord | None:
            found = connection.scalar(first)
            return None if found is None else read_trials(connection, trial.id == found)[0]

        return self.database.reading(find)

    def add_measurements(self, trial_id: int, measurements: Sequence[Measurement]) -> None:
        """Add to what is known of a trial, also after it has finished."""
        rows = measurement_rows(trial_id, measurements)

        def add(connection: sa.Connection) -> None:
            row = writes.require(connection, self.name, schema.trial, trial_id)
            self.check(connection, row.study_id, adding=True)
            m = schema.measurement
            last = sa.select(m).where(m.c.trial_id == trial_id).order_by(m.c.id.desc()).limit(len(rows))
            # If they are the last there are, they were written before a connection was lost, or add nothing.
            there = [{k: v for k, v in row._mapping.items() if k != "id"} for row in connection.execute(last)]
            if rows and there[::-1] != rows:
                connection.execute(m.insert(), rows)

        self.database.writing(add)

    def add_diagnostics(self, trial_id: int, diagnostics: Mapping[str, float]) -> None:
        """Record what an agent tells of itself once it has learnt from a trial: measurements of the phase `agent`."""
        told = [Measurement(name, value, phase=Phase.AGENT) for name, value in diagnostics.items()]
        self.add_measurements(trial_id, told)

    def claim_projection(self, trial_id: int, lease: timedelta) -> bool:
        """Whether this process may now copy the trial into Optuna's tables.

        A driver and a dashboard may find the same trial missing there at once, and what is in those tables twice
        cannot be removed. A claim lasts for `lease`, so that one who died after it delays the copy only.
        """
        trial, claimed = schema.trial.c, now()
        free = trial.projected.is_(None) | (trial.projected < claimed - lease) | (trial.projected == claimed)
        claim = schema.trial.update().where((trial.id == trial_id) & free).values(projected=claimed)
        return self.database.writing(lambda connection: connection.execute(claim).rowcount == 1)

    def release_projection(self, trial_id: int) -> None:
        """Give a claim up after a copy that failed."""
        freed = schema.trial.update().where(schema.trial.c.id == trial_id).values(projected=None)
        self.database.writing(lambda connection: connection.execute(freed))

    # -- artifacts -------------------------------------------------------------------------------------------------

    def add_artifact(
        self, study_id: int, trial_id: int | None, kind: str, path: str | Path, sha256: str
    ) -> ArtifactRecord:
        """Record a file that came of a study (`trial_id` None) or of one of its trials."""
        values = {
            "study_id": study_id,
            "trial_id": trial_id,
            "kind": kind,
            "path": clean(str(path)),
            "sha256": sha256,
            "created": now(),
        }

        def add(connection: sa.Connection) -> Any:
            writes.require(connection, self.name, schema.study, study_id)
            if trial_id is not None:
                writes.require(connection, self.name, schema.trial, trial_id)
            self.check(connection, study_id, adding=True)
            same = sa.and_(*(schema.artifact.c[key] == value for key, value in values.items()))
            there = connection.execute(sa.select(schema.artifact).where(same)).one_or_none()
            return there or connection.execute(schema.artifact.insert().values(values).returning(schema.artifact)).one()

        return ArtifactRecord(**self.database.writing(add)._mapping)

    def artifacts(self, study_id: int) -> list[ArtifactRecord]:
        """The artifacts of a study and of its trials, the oldest first."""
        query = sa.select(schema.artifact).where(schema.artifact.c.study_id == study_id).order_by(schema.artifact.c.id)

        def read(connection: sa.Connection) -> list[ArtifactRecord]:
            writes.require(connection, self.name, schema.study, study_id)
            return [ArtifactRecord(**row._mapping) for row in connection.execute(query)]

        return self.database.reading(read)

    # -- within a transaction --------------------------------------------------------------------------------------

    def check(self, connection: sa.Connection, study_id: int, *, adding: bool = False) -> None:
        """Raise if the study is another's to write."""
        leases.check(connection, self.name, study_id, self._tokens.get(study_id), adding=adding)

    def _of_study(self, study_id: int, where: sa.ColumnElement[bool]) -> list[TrialRecord]:
        def read(connection: sa.Connection) -> list[TrialRecord]:
            writes.require(connection, self.name, schema.study, study_id)
            return read_trials(connection, where)

        return self.database.reading(read)

    def _require_running(self, connection: sa.Connection, row: Any) -> None:
        """Raise unless this store may close the trial."""
        self.check(connection, row.study_id)
        if row.state != TrialState.RUNNING.value:
            raise StoreError(
                f"trial {row.number} of {row.agent}/{row.seed} in {self.name} is closed already ({row.state}), "
                f"since {row.finished:%Y-%m-%d %H:%M:%S} UTC. If another process runs the study, stop one of them"
            )
