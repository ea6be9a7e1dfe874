"""What the store hands out: one frozen record a row."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from agents import Trial, TrialState
from automl.types import Measurement, Phase, values_in
from search_spaces import Point

Sense = Literal["at most", "at least"]
"""On which side of its bound a value has to be."""


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
    seal: str | None = None
    """By which the user who started it knows it (`seals.is_ours`)."""


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
        """Metric -> value in the search: the last step of each metric, of equal steps the one added last."""
        return self.values_of(Phase.SEARCH)

    def values_of(self, phase: Phase) -> dict[str, float]:
        """Metric -> value in `phase`, which is empty where nothing was measured."""
        return values_in(phase, self.measurements)

    def measured(self, metric: str, phase: Phase) -> Measurement | None:
        """What counts of a metric in a phase: of its last step, of equal steps the one added last; None if nothing."""
        found = [m for m in self.measurements if (m.phase, m.metric) == (phase, metric)]
        return sorted(found, key=lambda m: m.step)[-1] if found else None

    def labelled(self, own: Collection[str] | None = None) -> dict[str, Measurement]:
        """Every measurement under a name for tables, the last step of each: `accuracy`, `final_accuracy`, `latency_ms`.

        `own`: the metrics of the search (default: those of this trial), which keep their names: beside a user's metric
        `test_loss`, the loss on the test data is `test:loss`.
        """
        taken = self.values if own is None else own
        told = (m for m in self.measurements if m.phase not in (Phase.SENSITIVITY, Phase.GATES))  # a knob is no column
        return {label(m.phase, m.metric, taken): m for m in sorted(told, key=lambda m: m.step)}

    def to_trial(self) -> Trial:
        """The trial as an agent sees it: with what the search measured."""
        values = {} if self.state is TrialState.FAILED else self.values
        return Trial(self.number, self.point, self.state, values, self.reason)


_SPELLED = {Phase.LATENCY: "", Phase.CERTIFICATE: "certified_"}
"""How the names of a phase begin in tables where it is not the phase's own name."""


def label(phase: Phase, metric: str, own: Collection[str]) -> str:
    """What tables call a metric of a phase, beside the metrics `own` of the search."""
    if phase == Phase.SEARCH:
        return metric
    name = _SPELLED.get(phase, f"{phase}_") + metric
    return f"{phase}:{metric}" if name in own else name


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


@dataclass(frozen=True)
class Rule:
    """What the network that is reported was held against: a limit of the budget, or the guarantee."""

    text: str
    """As the user wrote it: `macs <= 50%`."""
    metric: str
    phase: Phase
    """In which the trial has a measurement of the metric: final if it was counted or measured, certificate if timed."""
    sense: Sense
    bound: float
    """The most or least that the metric may be, in its unit."""
    value: float
    """What it was."""

    def exceeded(self, trial: TrialRecord) -> float | None:
        """By how much a trial's network breaks the rule, in the metric's unit, at most 0 if it keeps it.

        None where that was not measured: a network is timed only if nothing better keeps the limit. What was not
        finished counts as the search had it.
        """
        measured = trial.values_of(self.phase)
        if self.phase is Phase.FINAL:
            measured = {**trial.values, **measured}
        if self.metric not in measured:
            return None
        over = measured[self.metric] - self.bound
        return over if self.sense == "at most" else -over


@dataclass(frozen=True)
class ConclusionRecord:
    """The trial that was reported as a study's winner, and the rules that its network keeps."""

    id: int
    study_id: int
    trial_id: int
    concluded: datetime
    notes: tuple[str, ...]
    """What a reader of the study's figures should know."""
    rules: tuple[Rule, ...]
