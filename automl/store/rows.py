"""Rows of the tables and what they stand for: how records are read, and what values are fit to be written."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from agents import Goal, TrialState
from automl.store import schema
from automl.store.errors import StoreError
from automl.store.records import StudyRecord, TrialRecord
from automl.types import Measurement, Phase, values_in
from search_spaces import Knob, Point


def read_study(connection: sa.Connection, name: str, where: sa.ColumnElement[bool]) -> StudyRecord | None:
    """The study of the database `name` of which `where` holds; None if there is none.

    `StoreError` if what stands there is no study: a database may be anybody's.
    """
    try:
        row = connection.execute(sa.select(schema.study).where(where)).one_or_none()
        if row is None:
            return None
        record = study_record(row)
        require_readable(record.config)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        called = connection.scalar(sa.select(schema.study.c.name).where(where))
        raise StoreError(
            f"study {called!r} in {name} is no record that can be read ({type(error).__name__}: {error}). Remove it "
            f"with `automl db remove`"
        ) from error
    return record


def study_record(row: Any) -> StudyRecord:
    """A row of `study`."""
    return StudyRecord(**{key: value for key, value in row._mapping.items() if key not in ("objective", "direction")})


def require_readable(config: Any) -> None:
    """Raise whatever reading raises unless `config`, of a database or a file of anybody's, is that of a study."""
    for knob in config.get("knobs", ()):
        Knob.from_record(knob)
    Goal(**config.get("goal", {"metric": "any", "direction": "maximize"}))
    for limit in config.get("limits", {}).values():
        finite(limit, "a limit")


def goal_columns(config: Mapping[str, Any]) -> dict[str, str | None]:
    """The columns of a study that say again what its configuration does, for queries."""
    goal = config.get("goal", {})
    return {"objective": goal.get("metric"), "direction": goal.get("direction")}


def read_trials(connection: sa.Connection, where: sa.ColumnElement[bool]) -> list[TrialRecord]:
    """The trials by (agent, seed, number), in two queries however many there are."""
    trial, m = schema.trial.c, schema.measurement.c
    rows = connection.execute(sa.select(schema.trial).where(where)).all()
    if not rows:
        return []
    query = sa.select(schema.measurement).join(schema.trial, trial.id == m.trial_id).where(where).order_by(m.id)
    measurements = defaultdict(list)
    for row in connection.execute(query):
        measurements[row.trial_id].append(measurement(row))
    rows = sorted(rows, key=lambda row: (row.agent, row.seed, row.number))  # here: SQL sorts text by locale
    try:
        return [trial_record(row, measurements[row.id]) for row in rows]
    except (TypeError, ValueError, AttributeError) as error:  # a database may be anybody's
        raise StoreError(
            f"a trial is no record that can be read ({error}). Restore the database from a copy"
        ) from error


def within(study_id: int, agent: str | None, seed: int | None) -> sa.ColumnElement[bool]:
    """The condition that a trial is one of the study, or of one agent or lane of it."""
    where = schema.trial.c.study_id == study_id
    if agent is not None:
        where &= schema.trial.c.agent == agent
    if seed is not None:
        where &= schema.trial.c.seed == seed
    return where


def trial_record(row: Any, measurements: Sequence[Measurement]) -> TrialRecord:
    """A row of `trial` with its measurements; those that are diagnostics are told apart."""
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
        measurements=tuple(m for m in measurements if m.phase != Phase.AGENT),
        attempts=row.attempts,
        diagnostics=values_in(Phase.AGENT, measurements),
    )


def measurement(row: Any) -> Measurement:
    """A row of `measurement`."""
    return Measurement(row.metric, row.value, row.unit, row.n, row.spread, row.device, row.step, Phase(row.phase))


def measurement_rows(trial_id: int, measurements: Sequence[Measurement]) -> list[dict[str, Any]]:
    """The rows of `measurement` for a trial; `StoreError` unless every number is finite."""
    return [
        {
            "trial_id": trial_id,
            "metric": m.metric,
            "step": int(m.step),
            "value": finite(m.value, m.metric),
            "unit": m.unit,
            "n": int(m.n),
            "spread": None if m.spread is None else finite(m.spread, f"the spread of {m.metric}"),
            "device": m.device,
            "phase": m.phase.value,
        }
        for m in measurements
    ]


def now() -> datetime:
    """This moment, UTC, to the microsecond: as both databases keep it."""
    return datetime.now(UTC)


def finite(value: float, name: str) -> float:
    """A plain float (drivers take no NumPy scalars); NaN and infinity never enter."""
    number = float(value)
    if not math.isfinite(number):
        raise StoreError(f"{name} must be finite to be recorded, got {number}. Leave out what could not be measured")
    return number


def clean(text: str) -> str:
    """Text that every database takes: an error message may hold NUL or halves of surrogate pairs."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON has, and nothing else."""
    try:
        read: dict[str, Any] = json.loads(json.dumps(dict(values), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise StoreError(
            f"expected values that JSON has (text, finite numbers, lists, dicts), got {values!r:.200}: {error}"
        ) from error
    return read
