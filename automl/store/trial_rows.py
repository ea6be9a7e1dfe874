"""The trials of a study as rows, on the way from the database to every table; pandas takes seconds to load."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from automl.store import schema
from automl.store.records import label
from automl.store.store import Store
from automl.types import BASE, Phase

FIXED = ("agent", "seed", "number", "state", "reason", "started", "finished", "wall_s", "finish_order", "repeated")
"""What every trial has."""

Row = Mapping[str, Any]
"""Column -> value; what was not measured is missing."""


@dataclass(frozen=True)
class TrialRows:
    """The trials of a study, one row each, by (agent, seed, number)."""

    rows: Sequence[Row]
    metrics: tuple[str, ...]
    """The columns of what was measured, under names such as `accuracy`, `final_accuracy`, `latency_ms`."""
    knobs: tuple[str, ...]
    """The columns of what was chosen, `keep:<knob>` or `level:<knob>`."""
    spreads: Sequence[Mapping[str, float]]
    """Metric -> its spread, of each row."""
    original: Row = field(default_factory=dict)
    """The row of the original network, empty before it is measured."""

    @property
    def columns(self) -> tuple[str, ...]:
        """All there are."""
        return (*FIXED, *self.metrics, *self.knobs)

    def picked(self, places: Sequence[int]) -> TrialRows:
        """The rows at these places, in this order."""
        return replace(self, rows=[self.rows[i] for i in places], spreads=[self.spreads[i] for i in places])


def recorded_trials(store: Store, name: str, *, choices: bool = True) -> TrialRows:
    """The trials of the study `name`; `choices`: with the knobs. `StudyNotFoundError` if there is no such study.

    Of a metric the last step counts. Of other phases than the search metrics have names of their own
    (`TrialRecord.labelled`). "keep:<knob>" is the fraction of its channels or weights kept, "level:<knob>" the level of
    a knob of another unit.
    """
    study = store.study(name)
    trial, m = schema.trial.c, schema.measurement.c
    told = (
        trial.id,
        trial.point if choices else sa.literal("{}").label("point"),
        *(trial[name] for name in FIXED[:-1]),
        trial.repeat_of,
    )
    measured = sa.select(m.trial_id, m.phase, m.metric, m.value, m.spread).order_by(m.step, m.id)
    measured = measured.join(schema.trial, trial.id == m.trial_id)
    # Of training a step is an epoch: its course is no column, its end is.
    wanted = (trial.study_id == study.id) & m.phase.not_in([Phase.AGENT.value, Phase.SENSITIVITY.value])

    def read(connection: sa.Connection) -> tuple[Sequence[Any], Sequence[Any]]:
        rows = connection.execute(sa.select(*told).where(trial.study_id == study.id)).all()
        return rows, connection.execute(measured.where(wanted)).all()

    found, measurements = store.database.reading(read)
    found = sorted(found, key=lambda row: (row.agent, row.seed, row.number))  # SQL sorts text by locale
    pairs = {(phase, metric) for _, phase, metric, _, _ in measurements}
    own = {metric for phase, metric in pairs if phase == Phase.SEARCH.value}
    labels = {(phase, metric): label(Phase(phase), metric, own) for phase, metric in pairs}
    values: dict[int, dict[str, Any]] = {row[0]: {} for row in found}
    spreads: dict[int, dict[str, float]] = {row[0]: {} for row in found}
    for trial_id, phase, metric, value, spread in measurements:
        called = labels[phase, metric]
        values[trial_id][called] = value
        if spread is not None:
            spreads[trial_id][called] = spread
        else:
            spreads[trial_id].pop(called, None)
    metrics = tuple(dict.fromkeys(called for row in found for called in values[row[0]]))
    points = json.loads(f"[{','.join(row.point for row in found)}]")  # one text: ten thousand are slower to read
    knobs = _knob_columns(study.config.get("knobs", ()), points) if choices else {}
    rows = []
    for (trial_id, _, *fixed, repeat_of), point in zip(found, points, strict=True):
        row = {**dict(zip(FIXED, (*fixed, repeat_of is not None), strict=True)), **values[trial_id]}
        row |= {column: point[name] / size for name, (column, size) in knobs.items() if name in point}
        rows.append(row)
    original = next((row for row in rows if row["agent"] == BASE), {})
    columns = tuple(column for column, _ in knobs.values())
    return TrialRows(rows, metrics, columns, [spreads[row.id] for row in found], original)


def _knob_columns(
    recorded: Sequence[Mapping[str, Any]], points: Sequence[Mapping[str, int]]
) -> dict[str, tuple[str, int]]:
    """Knob -> its column and what its level is divided by."""
    if not recorded:
        names = dict.fromkeys(name for point in points for name in point)
        return {name: (f"level:{name}", 1) for name in names}
    columns = {}
    for knob in recorded:
        name = knob["name"]
        kept = knob.get("unit", "channels") in ("channels", "weights")
        columns[name] = (f"keep:{name}", knob.get("size") or knob["levels"][-1]) if kept else (f"level:{name}", 1)
    return columns
