"""A few trials out of many: one by its name, AGENT/SEED/NUMBER or `winner`, those finished, the best of a lane."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from agents import TrialState
from automl.errors import StudyError
from automl.store import schema
from automl.store.conclusions import conclusion
from automl.store.records import StudyRecord, TrialRecord
from automl.store.rows import read_trials
from automl.store.store import Store
from automl.types import Phase

WINNER = "winner"


class Lane(NamedTuple):
    """An agent with a seed: how many trials it has, and how many seconds were spent on them."""

    agent: str
    seed: int
    trials: int
    wall_s: float


def trial_named(store: Store, study: StudyRecord, text: str) -> TrialRecord:
    """The trial of a study that `text` names. `StudyError`, which says what was expected, if there is none."""
    if text == WINNER:
        concluded = conclusion(store, study.id)
        if concluded is None:
            raise StudyError(
                f"study {study.name!r} has reported no winner yet: `automl resume {study.name}` finishes it"
            )
        return store.trial(concluded.trial_id)
    agent, _, rest = text.partition("/")
    seed, _, number = rest.partition("/")
    trial = schema.trial.c
    found = []
    if seed.removeprefix("-").isdecimal() and number.isdecimal() and len(seed) < 19 and len(number) < 10:
        named: sa.ColumnElement[bool] = (trial.study_id == study.id) & (trial.agent == agent)
        named &= (trial.seed == int(seed)) & (trial.number == int(number))
        found = store.database.reading(lambda connection: read_trials(connection, named))
    if not found:
        raise StudyError(
            f"study {study.name!r} has no trial {text!r}: expected AGENT/SEED/NUMBER, such as amc/0/12, or `winner`. "
            f"`automl trials {study.name}` lists them"
        )
    return found[0]


def lanes(store: Store, study_id: int) -> list[Lane]:
    """Every lane of a study, in no order."""
    trial = schema.trial.c
    told = (trial.agent, trial.seed, sa.func.count(), sa.func.coalesce(sa.func.sum(trial.wall_s), 0.0))
    query = sa.select(*told).where(trial.study_id == study_id).group_by(trial.agent, trial.seed)
    return store.database.reading(lambda connection: [Lane(*row) for row in connection.execute(query)])


def finished_trials(store: Store, study_id: int, metric: str) -> list[TrialRecord]:
    """The done trials whose networks were finished, which the `metric` of the study tells; the original is one."""
    trial, m = schema.trial.c, schema.measurement.c
    finished = sa.select(m.trial_id).where(m.phase == Phase.FINAL.value, m.metric == metric)
    done = (trial.study_id == study_id) & (trial.state == TrialState.DONE.value) & trial.id.in_(finished)
    return store.database.reading(lambda connection: read_trials(connection, done))


def best_searched(store: Store, study_id: int, agent: str, seed: int) -> list[TrialRecord]:
    """The best done trial of a lane as the search saw it, of equals the first; none if none is done."""
    query = sa.text(
        "SELECT trial_id FROM trial_summary WHERE study_id = :study AND agent = :agent AND seed = :seed "
        "AND state = 'done' AND searched IS NOT NULL "
        "ORDER BY CASE direction WHEN 'minimize' THEN searched ELSE -searched END, finish_order LIMIT 1"
    )
    of_lane = {"study": study_id, "agent": agent, "seed": seed}
    found = store.database.reading(lambda connection: connection.scalar(query, of_lane))
    return [] if found is None else [store.trial(found)]
