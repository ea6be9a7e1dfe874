"""What a running study tells: a live table on a terminal, a line now and then in a log, JSON for programs."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TextIO

from agents import Goal, TrialState
from automl._duration import duration
from automl.session import Session

if TYPE_CHECKING:
    from automl.store import TrialRecord

RECENT = 40
"""How many trials the time left is told from."""

Form = Literal["auto", "lines", "json"]
"""`auto` is the table on a terminal and lines elsewhere."""


@dataclass
class Lane:
    """How far an agent with a seed is."""

    agent: str
    seed: int
    planned: int = 1
    finished: int = 0
    failed: int = 0
    best: float | None = None
    """The value of the best trial that is done."""
    budget_use: dict[str, float] = field(default_factory=dict)
    """Metric -> what that trial costs, as a fraction of the limit."""
    session: Session | None = None

    @property
    def running(self) -> int:
        """How many trials are under way."""
        return len(self.session.running) if self.session is not None else 0

    def take(self, record: TrialRecord, goal: Goal, limits: Mapping[str, float]) -> None:
        """Count a trial that has finished."""
        self.finished += 1
        self.failed += record.state is TrialState.FAILED
        if record.state is TrialState.DONE:
            value = record.values[goal.metric]
            if self.best is None or goal.utility(value) > goal.utility(self.best):
                self.best = value
                self.budget_use = {m: record.values[m] / limits[m] for m in limits if m in record.values and limits[m]}


class Progress:
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
        from automl.progress_views import JsonLines, Lines, Table, View

        stream = stream or sys.stderr
        self.goal = goal
        self.lanes: dict[tuple[str, int], Lane] = {}
        self._limits: Mapping[str, float] = {}
        self._ends: deque[float] = deque(maxlen=RECENT)
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

    @property
    def finished(self) -> int:
        """How many trials have finished, of all lanes."""
        return sum(lane.finished for lane in list(self.lanes.values()))

    @property
    def planned(self) -> int:
        """How many there are to be."""
        return sum(lane.planned for lane in list(self.lanes.values()))

    @property
    def left_s(self) -> float | None:
        """The time left in seconds; None until it can be told."""
        left = self.planned - self.finished
        if len(self._ends) < 3 or left <= 0:
            return None
        # The pace of the last trials: what comes before the first ones, such as starting workers, is paid for.
        return (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1) * left

    @property
    def summary(self) -> str:
        """How much is done, and the time left once it can be told."""
        left_s = self.left_s
        left = "" if left_s is None else f", about {duration(left_s)} left"
        return f"{self.finished} of {self.planned} trials{left}"

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
