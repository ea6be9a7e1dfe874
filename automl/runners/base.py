"""What a runner is, and how any of them runs one trial."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

from automl.errors import AutomlError
from automl.evaluation.failures import lacks_memory, reason_of
from automl.lanes.session import Proposer
from automl.types import Outcome
from search_spaces import Point

Evaluate = Callable[[Point, Point | None], Outcome]
"""Judges a Point beside the rival it has to beat, if there is one. Picklable if it is to run in other processes."""


class Trains(Protocol):
    """An `Evaluate` whose trials can be ended after any epoch."""

    def after(self, point: Point, epochs: int, checkpoint: Path) -> Outcome:
        """What `point` is worth after `epochs` epochs, one more than `checkpoint` holds; `STOPPED` before the last."""


class Runner(Protocol):
    """Runs trials until there are none."""

    def run(self, proposer: Proposer, evaluate: Evaluate) -> None:
        """Take trials, evaluate them, hand back their outcomes, until `proposer.done`.

        A trial that raises is handed back as failed with the reason, and the rest goes on: it would raise again. What
        may pass, a lack of memory, a worker that dies or takes too long, is a failed attempt (`Proposer.fail_attempt`)
        and the trial is run again, as long as its record says that it is running.
        `KeyboardInterrupt` leaves the trials in flight recorded as running, to be taken up on resume.
        """

    def close(self) -> None:
        """Give back what the runner has started."""


class OutOfMemoryError(AutomlError):
    """A trial found too little memory, which says as much of what else runs as of the trial."""


def run_trial(evaluate: Evaluate, point: Point, rival: Point | None = None) -> Outcome:
    """The outcome of one trial with the time it took; an exception is a failed trial, but for `OutOfMemoryError`."""
    return run(partial(evaluate, point, rival))


def run(trial: Callable[[], Outcome]) -> Outcome:
    """The same of a trial, or a part of one, that is only to be called."""
    started = time.perf_counter()
    try:
        outcome = trial()
    except Exception as error:  # one trial ends itself, not the study
        if lacks_memory(error):
            raise OutOfMemoryError(reason_of(error)) from None
        outcome = Outcome.failed(reason_of(error))
    return replace(outcome, wall_s=time.perf_counter() - started)
