"""The statements that change studies and trials, each within a transaction of the caller's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from automl.store import schema
from automl.store.errors import StoreError
from automl.store.records import TrialRecord
from automl.store.rows import clean, finite, measurement, measurement_rows, trial_record
from automl.types import Outcome


def added(connection: sa.Connection, table: sa.Table, values: Mapping[str, Any], key: Sequence[str]) -> Any | None:
    """The row with these values, new or found by its `key`; None if another row stands in its place."""
    insert = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)
    row = connection.execute(insert.values(values).on_conflict_do_nothing().returning(table)).one_or_none()
    if row is None:
        same = sa.and_(*(table.c[name] == values[name] for name in key))
        row = connection.execute(sa.select(table).where(same)).one_or_none()
    return row


def require(connection: sa.Connection, name: str, table: sa.Table, key: int) -> Any:
    """The row with this id in the database `name`; `StoreError` if there is none."""
    row = connection.execute(sa.select(table).where(table.c.id == key)).one_or_none()
    if row is None:
        raise StoreError(f"{name} has no {table.name} with id {key}")
    return row


def locked(connection: sa.Connection, name: str, trial_id: int) -> Any:
    """The row of a trial that is to be changed.

    Locked with its study, so that one trial of a study closes at a time and no place in a lane's order is given
    twice. SQLite, which has no such lock and ignores it, holds the write lock already.
    """
    of_study = sa.select(schema.trial).join(schema.study, schema.trial.c.study_id == schema.study.c.id)
    row = connection.execute(
        of_study.where(schema.trial.c.id == trial_id).with_for_update(key_share=True)
    ).one_or_none()
    return row or require(connection, name, schema.trial, trial_id)


def hand_out(connection: sa.Connection, row: Any, started: datetime) -> None:
    """The trial is tried once more."""
    again = schema.trial.update().where(schema.trial.c.id == row.id)
    connection.execute(again.values(started=started, attempts=row.attempts + 1))


def end_attempt(connection: sa.Connection, row: Any, reason: str, ended: datetime, *, counted: bool) -> None:
    """The attempt at a trial that is under way has come to no outcome."""
    values = {"trial_id": row.id, "number": row.attempts, "reason": clean(reason), "counted": counted, "ended": ended}
    connection.execute(schema.attempt.insert().values(values))


def close(
    connection: sa.Connection, row: Any, outcome: Outcome, finished: datetime, repeat_of: int | None = None
) -> TrialRecord:
    """The trial has ended, next in the order of its lane."""
    trial, m = schema.trial.c, schema.measurement.c
    earlier = schema.trial.alias().c
    lane = (earlier.study_id == row.study_id) & (earlier.agent == row.agent) & (earlier.seed == row.seed)
    last = sa.select(sa.func.coalesce(sa.func.max(earlier.finish_order), 0)).where(lane).scalar_subquery()
    values = {
        "state": outcome.state.value,
        "reason": None if outcome.reason is None else clean(outcome.reason),
        "finished": finished,
        "wall_s": finite(outcome.wall_s, "wall_s"),
        "finish_order": last + 1,
        "repeat_of": repeat_of,
    }
    update = schema.trial.update().where(trial.id == row.id).values(values).returning(schema.trial)
    closed = connection.execute(update).one()
    rows = measurement_rows(row.id, outcome.measurements)
    if rows:
        connection.execute(schema.measurement.insert(), rows)
    measured = connection.execute(sa.select(schema.measurement).where(m.trial_id == row.id).order_by(m.id))
    return trial_record(closed, [measurement(found) for found in measured])
