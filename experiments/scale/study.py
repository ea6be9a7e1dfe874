"""What the experiments of this folder share: a space of 27 knobs, a study with n trials on record, a PostgreSQL."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import sqlalchemy as sa

from agents import Goal, Trial, TrialState
from automl.lanes.session import Session
from automl.store import Store, StudyRecord, schema
from automl.store.rows import measurement_rows
from automl.types import Measurement, Outcome
from search_spaces import Knob, Point
from tests.kits.postgres import server

KNOBS = tuple(Knob(f"layer{i}.conv", tuple(range(4, 68, 4))) for i in range(27))
GOAL = Goal("accuracy", "maximize")
LIMITS = {"macs": 1e9}


def drawn(seed: int, number: int) -> Point:
    """A Point drawn uniformly."""
    levels = np.random.default_rng([seed, number]).integers(16, size=len(KNOBS))
    return Point({knob.name: knob.levels[level] for knob, level in zip(KNOBS, levels, strict=True)})


def outcome(number: int) -> Outcome:
    """What a trial reports: as many measurements as one of ours."""
    rng = np.random.default_rng(number)
    metrics = ("accuracy", "loss", "macs", "params", "size_bytes")
    return Outcome.done([Measurement(metric, rng.random(), n=1000) for metric in metrics], wall_s=0.5)


class Drawing:
    """The least an agent can do, so that what is measured is the driver."""

    max_trials = None

    def __init__(self, seed: int) -> None:
        self._seed, self._told = seed, 0

    def ask(self, n: int, running: Sequence[Trial]) -> Sequence[Point]:
        return [drawn(self._seed, self._told + len(running))]

    def tell(self, finished: Sequence[Trial]) -> None:
        self._told += len(finished)


def new_study(store: Store, n: int) -> StudyRecord:
    """A study with `n` finished trials in its one lane, written in bulk."""
    config = {
        "knobs": [{"name": k.name, "levels": list(k.levels), "unit": k.unit} for k in KNOBS],
        "goal": {"metric": GOAL.metric, "direction": GOAL.direction},
        "limits": LIMITS,
    }
    study = store.create_study("scale", config, code_version="", environment={})
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for first in range(0, n, 1000):
        numbers = range(first, min(first + 1000, n))
        with store.database.write() as connection:
            points = [drawn(0, number) for number in numbers]
            trials = [
                {
                    "id": number + 1,
                    "study_id": study.id,
                    "agent": "drawing",
                    "seed": 0,
                    "number": number,
                    "point": point.to_json(),
                    "point_key": point.key,
                    "state": TrialState.DONE.value,
                    "started": start + timedelta(seconds=number),
                    "finished": start + timedelta(seconds=number + 0.5),
                    "wall_s": 0.5,
                    "finish_order": number + 1,
                }
                for number, point in zip(numbers, points, strict=True)
            ]
            connection.execute(schema.trial.insert(), trials)
            rows = [row for number in numbers for row in measurement_rows(number + 1, outcome(number).measurements)]
            connection.execute(schema.measurement.insert(), rows)
    if not store.database.is_sqlite:
        with store.database.write() as connection:
            connection.execute(
                sa.text("SELECT setval(pg_get_serial_sequence('trial', 'id'), (SELECT max(id) FROM trial))")
            )
    return study


def open_session(store: Store, study: StudyRecord, more: int, **options: object) -> Session:
    """The lane of a study, to be gone on with for `more` trials."""
    n = sum(store.count_finished(study.id).values())
    return Session(store, study, "drawing", 0, Drawing(0), n + more, goal=GOAL, **options)


@contextlib.contextmanager
def database(kind: str) -> Iterator[str]:
    """The URL of an empty database, "sqlite" or "postgresql"."""
    if kind == "postgresql":
        with server() as running:
            yield running.get_uri(driver="psycopg")
    else:
        with tempfile.TemporaryDirectory(prefix="automl-scale-") as folder:
            yield f"sqlite:///{folder}/study.db"
