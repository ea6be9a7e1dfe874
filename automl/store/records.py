"""What the store hands out: one frozen record a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from agents import Trial, TrialState
from automl.types import Measurement
from search_spaces import Point

DIAGNOSTIC = "agent/"
"""What the names of the measurements begin with that an agent takes of itself, such as `agent/noise`."""


@dataclass(frozen=True)
class StudyRecord:
    """A study as it was created."""

    id: int
    name: str
    config: Mapping[str, Any]
    code_version: str
    environment: Mapping[str, Any]
    created: datetime
    """Aware, UTC; so are all datetimes here."""


@dataclass(frozen=True)
class TrialRecord:
    """A trial as the database has it. `number` counts from 0 within its lane, (agent, seed)."""

    id: int
    study_id: int
    agent: str
    seed: int
    number: int
    point: Point
    state: TrialState
    reason: str | None
    started: datetime
    """When it was last handed out."""
    finished: datetime | None
    wall_s: float | None
    """Time the worker spent on it, in seconds."""
    finish_order: int | None
    """1, 2, ... within the lane, in the order in which trials were closed; None while running."""
    repeat_of: int | None
    """The id of the trial whose measurements answered this one, if it was not evaluated itself."""
    measurements: tuple[Measurement, ...] = field(default_factory=tuple)
    """In the order in which they were added."""
    attempts: int = 1
    """How often it was handed out; above 1 if an attempt ended without an outcome (`Store.attempts` says why)."""
    diagnostics: Mapping[str, float] = field(default_factory=dict)
    """What the agent told of itself once it had learnt from the trial, such as `noise`. Kept apart from `measurements`,
    so that nothing which reads those, agents and tables of results, ever sees it."""

    @property
    def values(self) -> dict[str, float]:
        """Metric -> value: the last step of each metric, of equal steps the one added last."""
        return {m.metric: m.value for m in sorted(self.measurements, key=lambda m: m.step)}

    def to_trial(self) -> Trial:
        """The trial as an agent sees it."""
        values = {} if self.state is TrialState.FAILED else self.values
        return Trial(self.number, self.point, self.state, values, self.reason)


@dataclass(frozen=True)
class AttemptRecord:
    """An attempt at a trial that ended without an outcome."""

    trial_id: int
    number: int
    """1, 2, ... within the trial."""
    reason: str
    counted: bool
    """Whether the trial was to blame: its worker was lost. Not when the driver died."""
    ended: datetime


@dataclass(frozen=True)
class ArtifactRecord:
    """A file that came of a study, or of one of its trials."""

    id: int
    study_id: int
    trial_id: int | None
    kind: str
    path: str
    sha256: str
    created: datetime
