"""What a runner is, and how any of them runs one trial."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from automl.session import Proposer
from automl.types import Outcome
from search_spaces import Point

Evaluate = Callable[[Point, Point | None], Outcome]
"""Judges a Point beside the rival it has to beat, if there is one. Picklable if it is to run in other processes."""


class Runner(Protocol):
    """Runs trials until there are none."""

    def run(self, proposer: Proposer, evaluate: Evaluate) -> None:
        """Take trials, evaluate them, hand back their outcomes, until `proposer.done`.

        A trial that raises, or whose process dies, is handed back as failed with the reason, and the rest goes on.
        `KeyboardInterrupt` leaves the trials in flight recorded as running, to be taken up on resume.
        """

    def close(self) -> None:
        """Give back what the runner has started."""


def run_trial(evaluate: Evaluate, point: Point, rival: Point | None = None) -> Outcome:
    """The outcome of one trial with the time it took; an exception is a failed trial."""
    started = time.perf_counter()
    try:
        outcome = evaluate(point, rival)
    except Exception as error:  # one trial ends itself, not the study
        outcome = Outcome.failed(f"{type(error).__name__}: {error}")
    return replace(outcome, wall_s=time.perf_counter() - started)
