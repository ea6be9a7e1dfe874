"""What is recorded of a study: the trials of every lane, in the order in which they ended, and its winner."""

from __future__ import annotations

import gzip
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from automl.config.study import StudyConfig
from automl.store import Store, TrialRecord, open_store
from automl.study.conclude import certified_winner
from automl.study.finishing import finish
from automl.study.study import Study
from tests.golden.cases import CASES, DIGITS, HERE
from tests.golden.observed import levels

ELSEWHERE = "/elsewhere/digits"
"""Where the old database has the demo's files."""
BUDGETS = {"channels": "macs <= 70%", "depth": "macs <= 70%", "weights": "size <= 50%"}
"""So loose that networks are worth something without being refitted."""
SETTINGS = {
    "agent": {"name": "evolution", "population": 3, "tournament": 2},
    "baselines": ["uniform", "random"],
    "trials": 6,
    "seeds": [3],
    "evaluation": {
        "importance": "magnitude",
        "reconstruction": "none",
        "recalibration": "none",
        "precision": "float32",
        "race": 0,
    },
    "finish": {"reconstruction": "as_searched", "finalists": 1},
}
"""Nothing is refitted, so that a network's accuracy is the same on any processor but for an image or two."""


def study_record(name: str, store: Store) -> dict[str, Any]:
    """Run the study of a space; its trials, its winner and what is counted on the winner's network."""
    study = Study(store, CASES[name].config(name, budget=BUDGETS[name], **SETTINGS))
    with study.drive():
        study.run()
        finish(study)
    winner, network = certified_winner(study)
    lanes = {agent.name: store.trials(study.record.id, agent=agent.name) for agent, _ in study.config.lanes}
    return {
        "base": _trial(study, study.base()),
        "winner": [winner.agent, winner.number],
        "counted": {m.metric: m.value for m in study.finisher.certify(network)},
        **{f"lane {lane}": [_trial(study, trial) for trial in trials] for lane, trials in lanes.items()},
    }


def _trial(study: Study, trial: TrialRecord) -> dict[str, Any]:
    space = study.setup.space
    return {
        "point": levels(space, trial.point),
        "state": trial.state.value,
        "ended": trial.finish_order,
        "accuracy": trial.values["accuracy"],
        "costs": {metric: trial.values[metric] for metric in space.metrics},
    }


def next_points(name: str, database: Path) -> dict[str, dict[str, int]]:
    """Go on with a recorded study by one trial a lane; the Points of those trials, by lane.

    Only of lanes whose agents compute what is equal on any processor.
    """
    with open_store(database, create=False) as store:
        config = StudyConfig.from_record(store.study(name).config)
        study = Study(store, replace(config, trials=config.trials + 1))
        study.run()
        lanes = {agent: store.trials(study.record.id, agent=agent) for agent in ("random", "evolution")}
    return {agent: dict(trials[config.trials].point) for agent, trials in lanes.items() if trials}


def unpack_database(to: Path) -> None:
    """Write the old database to a file, with its studies beside the demo's files, wherever these are."""
    to.write_bytes(gzip.decompress((HERE / "studies_v2.db.gz").read_bytes()))
    with closing(sqlite3.connect(to)) as connection:
        connection.execute("UPDATE study SET config = replace(config, ?, ?)", (ELSEWHERE, DIGITS.as_posix()))
        connection.commit()
