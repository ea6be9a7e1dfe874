"""What a running study tells: a live line on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import TextIO

from agents import Goal, TrialState
from automl._duration import duration
from automl.session import Session
from automl.store import TrialRecord

RECENT = 40
"""How many trials the time left is told from."""


class Progress:
    """Counts finished trials against those planned, and tells the best value and the time left.

    Used as a context manager around the run, and as an observer of its sessions. Writes to `stream`, standard error
    by default; when that is no terminal, at most one line every `every_s` seconds and one when a lane is done.
    """

    def __init__(self, goal: Goal, *, stream: TextIO | None = None, every_s: float = 10.0, quiet: bool = False) -> None:
        self._goal = goal
        self._stream = stream or sys.stderr
        self._every_s = every_s
        self._lanes: dict[tuple[str, int], tuple[int, int]] = {}  # lane -> finished, planned
        self._best: dict[tuple[str, int], float] = {}
        self._ends: deque[float] = deque(maxlen=RECENT)
        self._told = time.monotonic()
        self._quiet = quiet
        self._live = _LiveLine(self._stream) if self._stream.isatty() and not quiet else None

    def plan(self, sessions: Sequence[Session]) -> None:
        """Name the lanes that will run, with what they have already."""
        for session in sessions:
            lane = (session.agent_name, session.seed)
            self._lanes[lane] = (len(session.finished), max(session.trials, len(session.finished)))
            best = session.best(self._goal)
            if best is not None:
                self._best[lane] = best.values[self._goal.metric]
        self._told = time.monotonic()
        self._ends.clear()
        self._show(self.summary)

    def __call__(self, record: TrialRecord) -> None:
        """A trial has finished."""
        lane = (record.agent, record.seed)
        finished, planned = self._lanes.get(lane, (0, 1))
        self._lanes[lane] = (finished + 1, planned)
        self._ends.append(time.monotonic())
        if record.state is TrialState.DONE:
            value = record.values[self._goal.metric]
            best = self._best.get(lane)
            if best is None or self._goal.utility(value) > self._goal.utility(best):
                self._best[lane] = value
        line = f"{self.summary}; {_lane(lane)} {finished + 1}/{planned}"
        if lane in self._best:
            line += f", best {self._goal.metric} {self._best[lane]:.4f}"
        if record.state is not TrialState.DONE:
            line += f"; trial {record.number} {record.state}: {record.reason}"
        self._show(line, now=finished + 1 == planned or record.state is TrialState.FAILED)

    @property
    def summary(self) -> str:
        """How much is done, and the time left once it can be told."""
        finished = sum(done for done, _ in self._lanes.values())
        planned = sum(total for _, total in self._lanes.values())
        text = f"{finished} of {planned} trials"
        if len(self._ends) > 2 and planned > finished:
            # The pace of the last trials: what comes before the first ones, such as starting workers, is paid for.
            seconds = (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1) * (planned - finished)
            text += f", about {duration(seconds)} left"
        return text

    def say(self, text: str) -> None:
        """Something worth a line of its own."""
        if self._quiet:
            return
        if self._live is not None:
            self._live.clear()
        print(text, file=self._stream, flush=True)

    def _show(self, line: str, *, now: bool = False) -> None:
        if self._live is not None:
            self._live.show(line)
        elif now or time.monotonic() - self._told >= self._every_s:
            self._told = time.monotonic()
            self.say(line)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.clear()


class _LiveLine:
    """One line that is written anew, with what has passed so far."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.status import Status

        self._status = Status("", console=Console(file=stream), spinner="dots")

    def show(self, line: str) -> None:
        from rich.text import Text

        self._status.update(Text(line, overflow="ellipsis", no_wrap=True))
        self._status.start()

    def clear(self) -> None:
        self._status.stop()


def _lane(lane: tuple[str, int]) -> str:
    return f"{lane[0]}, seed {lane[1]},"
