"""What a running study tells: a live table on a terminal, a line now and then in a log, JSON for programs."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TextIO

from agents import Goal
from automl.lanes.progress_views import JsonLines, Lines, Table, View
from automl.lanes.session import Session
from automl.lanes.tally import Lane, Tally

if TYPE_CHECKING:
    from automl.store import TrialRecord

Form = Literal["auto", "lines", "json"]
"""`auto` is the table on a terminal and lines elsewhere."""


class Progress(Tally):
    """Counts finished trials against those planned, and tells the best value and the time left.

    Used as a context manager around the run, and as an observer of its sessions. Writes to `stream`, standard error
    by default; lines are at most one every `every_s` seconds, and one when a lane is done or a trial has failed.
    """

    def __init__(
        self,
        goal: Goal,
        *,
        stream: TextIO | None = None,
        every_s: float = 10.0,
        quiet: bool = False,
        form: Form = "auto",
    ) -> None:
        super().__init__(goal)
        stream = stream or sys.stderr
        self._view: View | None = None
        if not quiet:
            if form == "json":
                self._view = JsonLines(stream)
            elif form == "auto" and stream.isatty():
                self._view = Table(stream, self)
            else:
                self._view = Lines(stream, every_s)

    def plan(self, sessions: Sequence[Session], limits: Mapping[str, float] | None = None) -> None:
        """Name the lanes that will run, with what they have already, and the budget's limits by metric."""
        self._limits = limits or {}
        for session in sessions:
            lane = Lane(session.agent_name, session.seed, session=session)
            for record in session.finished:
                lane.take(record, self.goal, self._limits)
            lane.planned = max(session.trials, lane.finished)
            self.lanes[lane.agent, lane.seed] = lane
        self._ends.clear()
        if self._view is not None:
            self._view.plan(self)

    def __call__(self, record: TrialRecord) -> None:
        """A trial has finished."""
        lane = self.lanes.setdefault((record.agent, record.seed), Lane(record.agent, record.seed))
        lane.take(record, self.goal, self._limits)
        self._ends.append(time.monotonic())
        if self._view is not None:
            self._view.trial(self, lane, record)

    def say(self, text: str) -> None:
        """Something worth a line of its own."""
        if self._view is not None:
            self._view.say(text)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._view is not None:
            self._view.close()
