"""A study removed from its database: the record, and what is shown of it in Optuna's tables."""

from __future__ import annotations

import sqlalchemy as sa

from automl.store import schema
from automl.store.errors import StudyNotFoundError
from automl.store.optuna_projection import lane_name, open_optuna_storage
from automl.store.rows import clean
from automl.store.store import Store


def remove_study(store: Store, name: str) -> None:
    """Remove the study `name` with its trials, measurements and artifacts' records, also one that cannot be read.

    Its files stay: where they lie is what the record says, which may be somebody else's. `StudyBusyError` if a process
    drives it, `StudyNotFoundError`.
    """
    study = schema.study.c
    found = store.database.reading(lambda c: c.scalar(sa.select(study.id).where(study.name == clean(name))))
    if found is None:
        store.study(name)  # says which there are
        raise StudyNotFoundError(f"study {name!r} in {store.name} was removed by another process meanwhile")
    with store.drive(found):
        # First what can be made anew, so that a kill in between leaves nothing that no command removes.
        _forget_projection(store, name, found)
        store.database.writing(lambda connection: _delete(connection, found))


def _delete(connection: sa.Connection, study_id: int) -> None:
    trials = sa.select(schema.trial.c.id).where(schema.trial.c.study_id == study_id)
    for table in (schema.measurement, schema.attempt):
        connection.execute(table.delete().where(table.c.trial_id.in_(trials)))
    concluded = sa.select(schema.conclusion.c.id).where(schema.conclusion.c.study_id == study_id)
    connection.execute(schema.rule.delete().where(schema.rule.c.conclusion_id.in_(concluded)))
    for table in (schema.artifact, schema.conclusion, schema.trial, schema.lease):
        connection.execute(table.delete().where(table.c.study_id == study_id))
    connection.execute(schema.study.delete().where(schema.study.c.id == study_id))


def _forget_projection(store: Store, name: str, study_id: int) -> None:
    if not store.database.reading(lambda connection: sa.inspect(connection).has_table("studies")):
        return
    trial = schema.trial.c
    query = sa.select(trial.agent, trial.seed).where(trial.study_id == study_id).distinct()
    lanes = store.database.reading(lambda connection: connection.execute(query).all())
    shown = [name, *(lane_name(name, agent, seed) for agent, seed in lanes)]
    optuna = open_optuna_storage(store.url)
    try:
        for other in optuna.get_all_studies():
            if other.study_name in shown or other.study_name.startswith(f"{name}: "):  # a front of the dashboard's
                optuna.delete_study(other._study_id)
    finally:
        optuna.remove_session()
        optuna.engine.dispose()
