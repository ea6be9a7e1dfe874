"""A table run as a study: in the database trial by trial, so that everything which reads studies works on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from automl.benchmark.regret import agent_for
from automl.benchmark.tabular import Table
from automl.errors import StudyError
from automl.lanes.session import Lanes, Session
from automl.runners import SerialRunner
from automl.store import Store, StudyNotFoundError, StudyRecord
from automl.study.differences import first_differences
from automl.study.provenance import code_version


def record(
    store: Store, study_name: str, table: Table, names: Sequence[str], *, seeds: Sequence[int], trials: int
) -> StudyRecord:
    """Run the agents `names` on `table` as lanes of study `study_name`, new or gone on with; the last is its main one.

    The same loop, sessions and replay as for networks, with the table for an evaluator; a trial takes the time of its
    transactions. `StudyError` if there is another study of this name, `StudyBusyError` if another process runs it.
    """
    config = {
        "knobs": [knob.to_record() for knob in table.space.knobs],
        "goal": asdict(table.goal),
        "limits": dict(table.limits),
        "agent": {"name": names[-1]},
        "table": dict(table.provenance),
    }
    try:
        study = store.study(study_name)
        differences = first_differences(study.config, config)
        if differences:
            raise StudyError(
                f"study {study_name!r} in {store.name} is another: {'; '.join(differences)}. Name a new one"
            )
    except StudyNotFoundError:
        study = store.create_study(study_name, config, code_version=code_version(), environment={})
    with store.drive(study.id):
        lanes = [
            Session(store, study, name, seed, agent_for(table, name, seed, trials), trials)
            for seed in seeds
            for name in names
        ]
        SerialRunner().run(Lanes(lanes), table)
    return study
