"""A recorded trial evaluated again, and held against the record. Nothing is written to the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from agents import TrialState
from automl.errors import StudyError
from automl.lanes.session import best_of
from automl.runners import run_trial
from automl.store import TrialRecord
from automl.study.finishing import reported_network
from automl.study.study import Study
from automl.types import BASE, Measurement, Outcome, Phase
from search_spaces import Point

ROUNDING = 1e-5
"""How far a value may differ, as a fraction of itself, by sums that another processor adds up in another order."""

Verdict = Literal["the same", "within the standard error", "different"]


@dataclass(frozen=True)
class Compared:
    """One number as it is on record and as it came out now."""

    metric: str
    phase: Phase
    recorded: float
    now: float | None
    """None if it was not measured this time."""
    spread: float | None
    """The standard error on record."""

    @property
    def verdict(self) -> Verdict:
        """Whether it came out the same."""
        if self.now is None:
            return "different"
        difference = abs(self.now - self.recorded)
        if difference <= ROUNDING * max(abs(self.recorded), abs(self.now)):
            return "the same"
        return "within the standard error" if difference <= (self.spread or 0.0) else "different"


@dataclass(frozen=True)
class Rerun:
    """A trial on record and what came of it now."""

    trial: TrialRecord
    outcome: Outcome
    compared: tuple[Compared, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of all, of how it ended too."""
        verdicts = {one.verdict for one in self.compared}
        if self.outcome.state is not self.trial.state or "different" in verdicts:
            return "different"
        return "within the standard error" if "within the standard error" in verdicts else "the same"


def rerun(study: Study, trial: TrialRecord) -> Rerun:
    """Evaluate `trial` as the search did, in a race with its rival of then; a finalist's network also as reported.

    `StudyError` for a trial that is still running, or that a scheduler ended by comparing it with others.
    """
    if not trial.state.finished:
        raise StudyError(
            f"trial {trial.agent}/{trial.seed}/{trial.number} has not finished, so there is nothing to hold"
        )
    if trial.state is TrialState.STOPPED and study.config.evaluation.scheduler is not None:
        raise StudyError(
            "the scheduler ended this trial by comparing it with others of its time: rerun one that is done"
        )
    first = study.store.trial(trial.repeat_of) if trial.repeat_of is not None else trial
    study.corrections.as_of(first.number)
    outcome = run_trial(study.judge_of(first.agent), first.point, _rival(study, first))
    compared = _held(first.measurements, outcome.measurements, Phase.SEARCH)
    if trial.values_of(Phase.FINAL):
        network = reported_network(study, trial.point)
        compared += _held(trial.measurements, study.finisher.measure_validation(network), Phase.FINAL)
    return Rerun(trial, outcome, tuple(compared))


def _rival(study: Study, trial: TrialRecord) -> Point | None:
    """The best of the trial's lane when it was handed out, if trials race."""
    if not study.config.evaluation.races or trial.agent == BASE:
        return None
    lane = study.store.trials(study.record.id, agent=trial.agent, seed=trial.seed)
    before = [other for other in lane if other.finished is not None and other.finished <= trial.started]
    kept = [other for other in before if study.corrections.keeps(other.point)]
    leader = best_of(sorted(kept, key=lambda other: other.finish_order or 0), study.config.goal)
    return leader.point if leader is not None else None


def _held(recorded: Sequence[Measurement], now: Sequence[Measurement], phase: Phase) -> list[Compared]:
    """What is on record of a phase, the last step of each metric, beside what was measured now."""
    last = {m.metric: m for m in sorted(recorded, key=lambda m: m.step) if m.phase == phase}
    values = {m.metric: m.value for m in sorted(now, key=lambda m: m.step)}
    return [Compared(name, phase, m.value, values.get(name), m.spread) for name, m in last.items()]
