"""What keeps a Tune sweep in hand: which worker runs what, deadlines, why a trial failed, Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray
from ray.tune import Callback, Stopper
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

NOT_STARTED = "the worker could not start"
"""So begins the reason of an attempt whose worker could not load itself or the evaluator."""


class KeepWorkers(FIFOScheduler):
    """Keeps the workers alive; and hears why a trial has failed, just before Tune's Searcher is told that it has.

    Tune gives a worker that is free to the trial that waits longest, even if a process is just starting for that
    one, and stops that process: where trials are shorter than a start, one worker would do all. So as many of the
    oldest trials that wait are passed over as there are processes starting.
    """

    def __init__(self, workers: int, reasons: dict[str, str]) -> None:
        """`reasons`: Tune's trial id -> why it failed; kept up."""
        super().__init__()  # type: ignore[no-untyped-call]  # Ray's own, which has no annotations
        self._workers = workers
        self._reasons = reasons
        self._order: dict[str, int] = {}  # Tune's trial id -> how many were added before it

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Note its place in the order."""
        self._order[trial.trial_id] = len(self._order)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Whom the next worker that is free is for."""
        live = sorted(tune_controller.get_live_trials(), key=lambda trial: self._order[trial.trial_id])
        waiting = [trial for trial in live if trial.status == Trial.PENDING]
        starting = self._workers - sum(trial.status == Trial.RUNNING for trial in live) - 1  # the one free is none
        return waiting[starting] if 0 <= starting < len(waiting) else next(iter(waiting), None)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Note the reason, unless it is known."""
        _, _, text = Path(trial.error_file).read_text("utf-8").partition("\n")  # the first line only dates it
        reason = " ".join(text.split())
        kind, told = "the worker was lost", reason[:400]
        if "OutOfMemoryError" in reason or "running low on memory" in reason:
            kind = "out of memory"
        elif "raised in its creation task" in reason:
            kind, told = NOT_STARTED, reason[-400:]  # what was raised stands last
        self._reasons.setdefault(trial.trial_id, f"{kind}: {told}")


class Deadlines(Callback):
    """Ends the worker of a trial that takes longer than `timeout_s` seconds, from when the worker has it."""

    def __init__(self, timeout_s: float, reasons: dict[str, str]) -> None:
        """`reasons`: Tune's trial id -> why it failed; kept up."""
        self._timeout_s = timeout_s
        self._reasons = reasons
        self._due: dict[str, tuple[float, Any]] = {}  # Tune's trial id -> when, whom

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Its time begins."""
        self._due[trial.trial_id] = (time.monotonic() + self._timeout_s, trial.temporary_state.ray_actor)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """It was in time."""
        self._due.pop(trial.trial_id, None)

    def on_trial_save(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """It pauses; its worker is another's."""
        self._due.pop(trial.trial_id, None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """It has ended."""
        self._due.pop(trial.trial_id, None)

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """End the workers of those that are late."""
        now = time.monotonic()
        for trial_id in [trial_id for trial_id, (due, _) in self._due.items() if now > due]:
            _, actor = self._due.pop(trial_id)
            self._reasons[trial_id] = f"timed out: no outcome within {self._timeout_s:g} s"
            ray.kill(actor)  # Tune then tells of its death


class Interrupt(Stopper):
    """Ends the sweep at the first Ctrl-C, or once it has failed."""

    def __init__(self, failed: Callable[[], bool]) -> None:
        self.pressed = False
        self._failed = failed

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Not one trial."""
        return False

    def stop_all(self) -> bool:
        """Whether it is to end."""
        return self.pressed or self._failed()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """While it lasts the first Ctrl-C is heard here, and told to who would have heard it; what follows is theirs.

        Afterwards handlers are as before, also those that Tune replaces and leaves.
        """
        if threading.current_thread() is not threading.main_thread():  # where no signal arrives
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGUSR1)}
        theirs = before[signal.SIGINT]

        def heard(number: int, frame: Any) -> None:
            self.pressed = True
            signal.signal(number, theirs)
            if callable(theirs):
                with contextlib.suppress(KeyboardInterrupt):  # Tune is to stop its workers first
                    theirs(number, frame)

        try:
            signal.signal(signal.SIGINT, heard)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
