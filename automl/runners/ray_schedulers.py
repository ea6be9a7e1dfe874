"""Ray Tune's schedulers, told of every epoch of every trial: they alone decide which trials go on."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, HyperBandForBOHB, MedianStoppingRule, TrialScheduler

from agents import Goal, TrialState
from automl.config.schedulers import SchedulerOptions
from automl.runners.ray_hooks import KeepWorkers
from automl.types import Phase

if TYPE_CHECKING:
    from automl.store import TrialRecord

EPOCH, UTILITY = "epoch", "utility"
"""What a trial reports under which key: how far it is, and the goal's utility of what it has come to."""


@dataclass(frozen=True)
class Schedule:
    """By what trials of `epochs` epochs are compared, and by whom."""

    options: SchedulerOptions
    goal: Goal
    epochs: int

    def made(self, workers: int, reasons: dict[str, str], finished: Sequence[TrialRecord]) -> KeepWorkers:
        """The scheduler of a sweep; `finished`: what ran before."""
        kind = Halving if self.options.name == "hyperband" else Judging
        return kind(self, workers, reasons, finished)


@dataclass(frozen=True)
class _Known:
    """A trial as a scheduler knows it: by our id, which it keeps when it is tried again or its study resumed."""

    trial_id: int


class Judging(KeepWorkers):
    """Ends trials as Tune's ASHA or median rule says, which compare a trial with what others reported.

    A resumed study tells a new rule what the finished trials reported, from the record. The trials in flight begin
    again and report what they had reported, so that one worker takes the course of a study that was not interrupted. A
    network over the budget is not compared, nor is a trial that failed.
    """

    def __init__(
        self, schedule: Schedule, workers: int, reasons: dict[str, str], finished: Sequence[TrialRecord]
    ) -> None:
        super().__init__(workers, reasons)
        self._rule = _rule(schedule)
        self._told: set[tuple[int, int]] = set()  # our id, epoch
        metric = schedule.goal.metric
        for record in finished:
            if record.repeat_of is None and record.state in (TrialState.DONE, TrialState.STOPPED):
                for m in record.measurements:
                    if m.phase == Phase.SEARCH and m.metric == metric and m.step:
                        self._tell(record.id, record.number, {EPOCH: m.step, UTILITY: schedule.goal.utility(m.value)})

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Whether the trial goes on."""
        trial_id, number = trial.config["id"], trial.config["number"]
        if (trial_id, result[EPOCH]) in self._told:  # by an attempt whose worker was lost: it went on
            return TrialScheduler.CONTINUE
        self._told.add((trial_id, result[EPOCH]))
        self._add(trial_id, number)
        decision: str = self._rule.on_trial_result(tune_controller, _Known(trial_id), result)
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Let others be compared with a trial that came to its end."""
        if result["outcome"] and result["outcome"][0]["state"] == TrialState.DONE:
            self._tell(trial.config["id"], trial.config["number"], result)

    def _tell(self, trial_id: int, number: int, result: Mapping[str, Any]) -> None:
        """Tell the rule what a trial came to, without asking whether it goes on."""
        self._told.add((trial_id, result[EPOCH]))
        self._add(trial_id, number)
        self._rule.on_trial_complete(None, _Known(trial_id), result)

    def _add(self, trial_id: int, number: int) -> None:
        with _numpy_seeded(number):  # ASHA draws the trial's bracket
            self._rule.on_trial_add(None, _Known(trial_id))


def _rule(schedule: Schedule) -> Any:
    """Tune's scheduler, which is only ever asked about results."""
    options = schedule.options.settled
    compared: dict[str, Any] = {"time_attr": EPOCH, "metric": UTILITY, "mode": "max"}
    if schedule.options.name == "median":
        return MedianStoppingRule(
            **compared,
            grace_period=options["grace_epochs"],
            min_samples_required=options["min_trials"],
            min_time_slice=sys.maxsize,  # no trial makes way for others
        )
    return ASHAScheduler(
        **compared,
        max_t=schedule.epochs,
        grace_period=options["grace_epochs"],
        reduction_factor=options["reduction"],
        brackets=options["brackets"],
    )


@contextlib.contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    """NumPy's global generator seeded; afterwards it is as it was."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


class _Brackets(HyperBandForBOHB):
    """Tune's, but a bracket has no more trials than it was made for.

    There new ones take the places of those that have ended: with few workers a bracket is never full again once it has
    been halved, and takes all that is left of the study.
    """

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Into the bracket that is being filled, or the next."""
        bracket: Any = self._state["bracket"]
        if bracket is not None and len(bracket._all_trials) >= bracket._n0:
            self._state["bracket"] = None
        super().on_trial_add(tune_controller, trial)


class Halving(KeepWorkers):
    """HyperBand: the trials of a bracket pause until all have come as far, then the best of them go on.

    Tune's variant that fills one bracket after the other, the one that halves most often first, as in the paper. Its
    other one halves the trials that are there: with one worker each by itself, and nothing ever ends.

    A resumed study begins with a new bracket, in which its trials in flight, those that were paused too, begin again:
    brackets of trials that have partly finished cannot be made again.
    """

    def __init__(
        self, schedule: Schedule, workers: int, reasons: dict[str, str], finished: Sequence[TrialRecord]
    ) -> None:
        super().__init__(workers, reasons)
        self._brackets = _Brackets(
            time_attr=EPOCH,
            metric=UTILITY,
            mode="max",
            max_t=schedule.epochs,
            reduction_factor=schedule.options.settled["reduction"],
            stop_last_trials=False,  # rounding may have the last halving before the last epoch
        )

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Into the bracket that is being filled."""
        super().on_trial_add(tune_controller, trial)
        self._brackets.on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Whether the trial goes on, pauses or ends."""
        decision: str = self._brackets.on_trial_result(tune_controller, trial, result)
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Out of its bracket."""
        self._brackets.on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Out of its bracket: it was paused, and has been ended."""
        self._brackets.on_trial_remove(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Note the reason; out of its bracket."""
        super().on_trial_error(tune_controller, trial)
        self._brackets.on_trial_error(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Whom the next worker that is free is for: a trial that waits, or one that was paused and goes on."""
        waiting = super().choose_trial_to_run(tune_controller)
        if waiting is not None:
            return waiting
        running = sum(trial.status == Trial.RUNNING for trial in tune_controller.get_live_trials())
        return self._brackets.choose_trial_to_run(tune_controller) if running < self._workers else None
