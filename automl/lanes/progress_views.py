"""The forms in which progress is shown: lines, a live table, JSON lines."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from agents import TrialState
from automl.lanes.tally import Lane, Tally

if TYPE_CHECKING:
    from rich.console import RenderableType

    from automl.store import TrialRecord


class View(Protocol):
    """Shows what it is told of."""

    def plan(self, progress: Tally) -> None:
        """The lanes are known."""

    def trial(self, progress: Tally, lane: Lane, record: TrialRecord) -> None:
        """A trial has finished."""

    def say(self, text: str) -> None:
        """Something worth a line of its own."""

    def close(self) -> None:
        """Nothing more will come."""


class Lines:
    """For a log: a line every `every_s` seconds at most, and one when a lane is done or a trial has failed."""

    def __init__(self, stream: TextIO, every_s: float) -> None:
        self._stream, self._every_s = stream, every_s
        self._told = time.monotonic()

    def plan(self, progress: Tally) -> None:
        """The lanes are known."""
        self._told = time.monotonic()
        if self._every_s == 0:
            self.say(progress.summary)

    def trial(self, progress: Tally, lane: Lane, record: TrialRecord) -> None:
        """A trial has finished."""
        now = lane.finished == lane.planned or record.state is TrialState.FAILED
        if not now and time.monotonic() - self._told < self._every_s:
            return
        self._told = time.monotonic()
        line = f"{progress.summary}; {lane.agent}, seed {lane.seed}, {lane.finished}/{lane.planned}"
        if lane.best is not None:
            line += f", best {progress.goal.metric} {lane.best:.4f}"
        if record.state is not TrialState.DONE:
            line += f"; trial {record.number} {record.state}: {record.reason}"
        self.say(line)

    def say(self, text: str) -> None:
        """Something worth a line of its own."""
        print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Nothing is left open."""


class Table:
    """For a terminal: a row a lane, drawn anew in place; what is said stays above it."""

    def __init__(self, stream: TextIO, progress: Tally) -> None:
        from rich.console import Console
        from rich.live import Live

        self._progress = progress
        self._live = Live(
            console=Console(file=stream),
            get_renderable=self._draw,
            refresh_per_second=2,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def plan(self, progress: Tally) -> None:
        """The lanes are known."""
        self._live.start(refresh=True)

    def trial(self, progress: Tally, lane: Lane, record: TrialRecord) -> None:
        """Nothing: it is drawn by the clock. Only what has failed is said."""
        if record.state is TrialState.FAILED:
            self.say(f"{lane.agent}, seed {lane.seed}, trial {record.number} failed: {record.reason}")

    def say(self, text: str) -> None:
        """Something worth a line of its own."""
        from rich.text import Text

        self._live.console.print(Text(text), soft_wrap=True)

    def close(self) -> None:
        """Take the table away, and show the cursor."""
        self._live.stop()

    def _draw(self) -> RenderableType:
        from rich.table import Table as Grid
        from rich.text import Text

        lanes = list(self._progress.lanes.values())
        grid = Grid(box=None, title=Text(self._progress.summary), title_justify="left", title_style="bold")
        grid.add_column("agent")
        for title in ("seed", "trials", "running", "failed", f"best {self._progress.goal.metric}"):
            grid.add_column(title, justify="right")
        grid.add_column("of the budget")
        for lane in lanes:
            grid.add_row(
                lane.agent,
                str(lane.seed),
                f"{lane.finished}/{lane.planned}",
                str(lane.running or ""),
                str(lane.failed or ""),
                "" if lane.best is None else f"{lane.best:.4f}",
                ", ".join(f"{metric} {used:.1%}" for metric, used in lane.budget_use.items()),
            )
        return grid


class JsonLines:
    """For a program: one object an event, `plan`, `trial` or `message`, with its time."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def plan(self, progress: Tally) -> None:
        """The lanes are known."""
        lanes = [
            {"agent": lane.agent, "seed": lane.seed, "finished": lane.finished, "planned": lane.planned}
            for lane in progress.lanes.values()
        ]
        self._write("plan", lanes=lanes, finished=progress.finished, planned=progress.planned)

    def trial(self, progress: Tally, lane: Lane, record: TrialRecord) -> None:
        """A trial has finished."""
        self._write(
            "trial",
            agent=record.agent,
            seed=record.seed,
            number=record.number,
            state=record.state.value,
            reason=record.reason,
            attempts=record.attempts,
            wall_s=record.wall_s,
            values=record.values,
            best=lane.best,
            budget_use=lane.budget_use,
            running=lane.running,
            finished=progress.finished,
            planned=progress.planned,
            left_s=progress.left_s,
        )

    def say(self, text: str) -> None:
        """Something worth an event of its own."""
        self._write("message", text=text.strip())

    def close(self) -> None:
        """Nothing is left open."""

    def _write(self, event: str, **fields: Any) -> None:
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        print(json.dumps({"event": event, "time": time, **fields}), file=self._stream, flush=True)
