"""Optuna's tables kept up with a running study, at the expense of nobody who waits.

Optuna takes tens of milliseconds to add a trial, and holds an SQLite file's write lock and Python's interpreter for
most of them.
So trials are copied in a thread, while the driver has nothing to write: an evaluation is under way.
"""

from __future__ import annotations

import time
from queue import SimpleQueue
from threading import Event, Thread

from automl.store.optuna_projection import OptunaProjection
from automl.store.records import TrialRecord

QUIET_S = 0.05
"""The driver has nothing to write when no trial has finished for so long."""

AT_LEAST_EVERY_S = 1.0
"""A driver that is never quiet is disturbed once in so long."""


class LiveProjection:
    """Copies finished trials of a study into Optuna's tables in the background; `sync` brings what is left."""

    def __init__(self, projection: OptunaProjection) -> None:
        self._projection = projection
        self._queue: SimpleQueue[TrialRecord] = SimpleQueue()
        self._recorded = time.monotonic()
        self._stopping = Event()
        self._thread: Thread | None = None

    def record(self, trial: TrialRecord) -> None:
        """Note that a trial has finished. Takes no time, the first of a lane excepted, and never raises."""
        self._projection.prepare(trial)
        self._recorded = time.monotonic()
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
        copied = time.monotonic()
        while not self._stopping.is_set():
            now = time.monotonic()
            quiet = now - self._recorded >= QUIET_S
            if self._queue.empty() or not (quiet or now - copied >= AT_LEAST_EVERY_S):
                self._stopping.wait(QUIET_S / 2)
                continue
            self._projection.record(self._queue.get())
            copied = time.monotonic()
        self._projection.close()  # the connection that belongs to this thread

    def _stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
