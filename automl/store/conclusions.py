"""Which trial a study reported as its winner, and the rules that its network keeps.

A conclusion is never changed. Another one is added when the same study, with more trials perhaps, reports another trial
or the same under other numbers, so that what was said before can still be found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from automl.store import schema, writes
from automl.store.errors import StoreError
from automl.store.records import ConclusionRecord, Rule
from automl.store.rows import clean, finite, now
from automl.store.store import Store
from automl.types import Phase


def conclude_study(store: Store, trial_id: int, rules: Sequence[Rule], notes: Sequence[str] = ()) -> ConclusionRecord:
    """Record that a trial is the winner of its study, by the `rules` that it keeps, and `notes` for readers.

    The same trial with the same rules as last time is not recorded again, and the notes of then stay: they are of the
    measurements of then. `StoreError` if there is no such trial, or another process drives the study.
    """
    rows = [_row(rule) for rule in rules]
    concluded = now()

    def conclude(connection: sa.Connection) -> ConclusionRecord:
        trial = writes.require(connection, store.name, schema.trial, trial_id)
        store.check(connection, trial.study_id)
        last = _last(connection, trial.study_id)
        if last is not None and (last.trial_id, [_row(rule) for rule in last.rules]) == (trial_id, rows):
            return last
        values = {
            "study_id": trial.study_id,
            "trial_id": trial_id,
            "concluded": concluded,
            "notes": "\n".join(clean(note) for note in notes),
        }
        made = connection.scalar(schema.conclusion.insert().values(values).returning(schema.conclusion.c.id))
        if rows:
            connection.execute(schema.rule.insert(), [{**row, "conclusion_id": made} for row in rows])
        added = _last(connection, trial.study_id)
        assert added is not None
        return added

    return store.database.writing(conclude)


def conclusion(store: Store, study_id: int) -> ConclusionRecord | None:
    """What a study concluded last; None if it has reported no trial yet."""
    return store.database.reading(lambda connection: _last(connection, study_id))


def _last(connection: sa.Connection, study_id: int) -> ConclusionRecord | None:
    c, r = schema.conclusion.c, schema.rule.c
    query = sa.select(schema.conclusion).where(c.study_id == study_id).order_by(c.id.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    rules = connection.execute(sa.select(schema.rule).where(r.conclusion_id == row.id).order_by(r.id))
    try:
        values = {**row._mapping, "notes": tuple(row.notes.splitlines())}
        return ConclusionRecord(**values, rules=tuple(_rule(found) for found in rules))
    except ValueError as error:  # a database may be anybody's
        raise StoreError(f"a rule is no record that can be read ({error}). Restore the database from a copy") from error


def _row(rule: Rule) -> dict[str, Any]:
    return {
        "text": clean(rule.text),
        "metric": rule.metric,
        "phase": rule.phase.value,
        "sense": rule.sense,
        "bound": finite(rule.bound, f"the bound of {rule.text!r}"),
        "value": finite(rule.value, rule.metric),
    }


def _rule(row: Any) -> Rule:
    return Rule(row.text, row.metric, Phase(row.phase), row.sense, row.bound, row.value)
