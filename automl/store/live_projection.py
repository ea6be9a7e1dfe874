"""Optuna's tables kept up with a running study, at the expense of nobody who waits.

Optuna takes tens of milliseconds to add a trial, many times that on a busy core, and holds an SQLite file's write lock
most of the time. So trials are copied in a thread, and only while they finish at so slow a pace that the driver will
hardly want to write meanwhile; a study that goes on faster is shown when it pauses, and at its end.
"""

from __future__ import annotations

import time
from collections import deque
from queue import SimpleQueue
from threading import Event, Thread

from automl.store.optuna_projection import OptunaProjection
from automl.store.records import TrialRecord

PACE_S = 0.2
"""Trials are copied when they finish no more often than that, on average over the last `RECENT` and until now."""

RECENT = 20
NEXT_S = 0.02
"""How long the driver is left alone after a trial has finished: it then proposes the next."""


class LiveProjection:
    """Copies finished trials of a study into Optuna's tables in the background; `sync` brings what is left."""

    def __init__(self, projection: OptunaProjection) -> None:
        self._projection = projection
        self._queue: SimpleQueue[TrialRecord] = SimpleQueue()
        self._finished: deque[float] = deque(maxlen=RECENT)  # when the last trials were recorded
        self._stopping = Event()
        self._thread: Thread | None = None

    def record(self, trial: TrialRecord) -> None:
        """Note that a trial has finished. Takes no time, the first of a lane excepted, and never raises."""
        self._projection.prepare(trial)
        self._finished.append(time.monotonic())
        self._queue.put(trial)
        if self._thread is None:
            self._thread = Thread(target=self._run, name="automl-projection", daemon=True)
            self._thread.start()

    @property
    def behind(self) -> int:
        """How many of the trials recorded are still to be copied."""
        return self._queue.qsize()

    def sync(self) -> int:
        """Copy every finished trial of the study that is not there yet; the number copied. A failure is warned of."""
        self._stop()
        return self._projection.sync()

    def close(self) -> None:
        """End the thread and close the connections; what has not been copied is left to `automl dashboard`."""
        self._stop()
        self._projection.close()

    def _run(self) -> None:
        while not self._stopping.wait(NEXT_S):
            if not self._queue.empty() and self._quiet():
                self._projection.record(self._queue.get())
        self._projection.close()  # the connection that belongs to this thread

    def _quiet(self) -> bool:
        """Whether the driver will hardly want to write in the next moment."""
        now = time.monotonic()
        return now - self._finished[-1] >= NEXT_S and now - self._finished[0] >= PACE_S * len(self._finished)

    def _stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
