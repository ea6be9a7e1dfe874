"""A Ray Tune sweep. Tune runs the trials and remembers nothing: the database does, and resume is replay."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

# Read by Ray while it is imported. A local sweep needs no token; the new output and the loggers print and write files.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1000000")
os.environ.setdefault("TUNE_FORCE_TRIAL_CLEANUP_S", "2")

import ray
import torch
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from agents import TrialState
from automl.errors import StudyError
from automl.runners.base import Evaluate, run_trial
from automl.session import Proposer
from automl.types import Measurement, Outcome
from search_spaces import Point


class RayTuneRunner:
    """Up to `workers` trials at once, each in a process that holds the model and the data from its start.

    A cluster is started on first use and stopped by `close`; one that runs already in this process is used and left
    alone. `RAY_ADDRESS` names another.
    """

    def __init__(self, workers: int, *, threads: int | None = None) -> None:
        self._workers = workers
        self._threads = threads or max(1, (os.cpu_count() or 1) // workers)
        self._started = False

    def run(self, proposer: Proposer, evaluate: Evaluate) -> None:
        """Take trials, evaluate them in the workers, hand back their outcomes, until `proposer.done`."""
        if proposer.done:
            return
        if not ray.is_initialized():
            start(self._workers)
            self._started = True
        reference = ray.put(evaluate)
        _require_loadable(reference)
        scheduler = _Scheduler(self._workers)
        searcher = _SessionSearcher(proposer, self._workers, scheduler.reasons)
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(self._workers + 1)  # 1 by default, which starts one by one
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # every outcome reaches the database, with its reason
        with tempfile.TemporaryDirectory(prefix="automl-ray-") as folder:
            tuner = tune.Tuner(
                tune.with_resources(_actor(reference, self._threads), {"cpu": 1}),
                tune_config=tune.TuneConfig(
                    search_alg=searcher,
                    scheduler=scheduler,
                    num_samples=-1,
                    reuse_actors=True,
                    trial_dirname_creator=lambda trial: trial.trial_id,
                ),
                run_config=tune.RunConfig(
                    name="study",
                    storage_path=folder,
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                    verbose=0,
                ),
            )
            # Ray tells of a lost worker on stdout, where results go.
            with contextlib.redirect_stdout(sys.stderr), _signals_as_before():
                tuner.fit()
        if searcher.error is not None:
            raise searcher.error
        if not proposer.done:  # Tune takes Ctrl-C as the end of the sweep and returns
            raise KeyboardInterrupt

    def close(self) -> None:
        """Stop the cluster if this runner has started it."""
        if self._started:
            ray.shutdown()
            self._started = False


def start(workers: int) -> None:
    """Start a local cluster of `workers` workers that import whatever this process would import, from its folder.

    Ray puts the folder it is started from first in its workers' search path, after any setup: an `agents` folder of
    the user's there would hide ours. So it is started from one without modules.
    """
    quiet: dict[str, Any] = {"include_dashboard": False, "logging_level": logging.ERROR, "log_to_driver": False}
    if "RAY_ADDRESS" in os.environ:
        ray.init(**quiet)
        return
    environment = {"worker_process_setup_hook": _same_imports()}
    with contextlib.chdir(sys.prefix):
        ray.init(address="local", num_cpus=workers, runtime_env=environment, **quiet)


def _same_imports() -> Callable[[], None]:
    """A function that gives a process the search path and folder of this one; nested, to travel without its module."""
    search_path, folder = list(sys.path), str(Path.cwd())

    def set_search_path() -> None:
        import os
        import sys

        sys.path[:] = search_path
        os.chdir(folder)

    return set_search_path


@contextlib.contextmanager
def _signals_as_before() -> Iterator[None]:
    """Put back the signal handlers that Tune replaces and leaves, or Ctrl-C would do nothing ever after."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGUSR1)}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _actor(reference: Any, threads: int) -> type[tune.Trainable]:
    """The class of the workers, which fetch the evaluator at `reference` once."""

    class TrialActor(tune.Trainable):
        """A worker: holds the evaluator, and runs one trial a step."""

        def setup(self, config: dict[str, Any]) -> None:
            torch.set_num_threads(threads)
            self._evaluate = ray.get(reference)
            self.reset_config(config)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self._point = Point.from_json(new_config["point"])
            rival = new_config["rival"]
            self._rival = Point.from_json(rival) if rival is not None else None
            return True

        def step(self) -> dict[str, Any]:
            return {"outcome": [asdict(run_trial(self._evaluate, self._point, self._rival))], "done": True}

    return TrialActor


class _Scheduler(FIFOScheduler):
    """Hears why a trial has failed, just before Tune's Searcher is told that it has; and keeps the workers alive.

    Tune gives a worker that is free to the trial that waits longest, even if a process is just starting for that
    one, and stops that process: where trials are shorter than a start, one worker would do all. So as many of the
    oldest trials that wait are passed over as there are processes starting.
    """

    def __init__(self, workers: int) -> None:
        super().__init__()
        self.reasons: dict[str, str] = {}
        """Tune's trial id -> why it failed."""
        self._workers = workers
        self._order: dict[str, int] = {}  # Tune's trial id -> how many were added before it

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self._order[trial.trial_id] = len(self._order)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        live = sorted(tune_controller.get_live_trials(), key=lambda trial: self._order[trial.trial_id])
        waiting = [trial for trial in live if trial.status == Trial.PENDING]
        starting = self._workers - sum(trial.status == Trial.RUNNING for trial in live) - 1  # the one free is none
        return waiting[starting] if 0 <= starting < len(waiting) else next(iter(waiting), None)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        _, _, text = Path(trial.error_file).read_text("utf-8").partition("\n")  # the first line only dates it
        self.reasons[trial.trial_id] = " ".join(text.split())[:400]


class _SessionSearcher(Searcher):
    """Our session behind Tune's Searcher: only names change.

    One trial more than there are workers is out at a time, ready for the worker that is free next. Without one
    waiting, Tune stops a worker whose trial has ended, and the next trial pays for a new process.
    """

    def __init__(self, proposer: Proposer, workers: int, reasons: Mapping[str, str]) -> None:
        super().__init__(metric="outcome", mode="max")
        self._proposer = proposer
        self._workers = workers
        self._reasons = reasons
        self._live: dict[str, int] = {}  # Tune's trial id -> ours
        self.error: Exception | None = None
        """What went wrong in this process, such as a full disk. Tune would take it for a failure of the trial."""

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict, **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> Any:
        if self.error is not None:
            return Searcher.FINISHED
        if len(self._live) > self._workers:
            return None
        try:
            record = self._proposer.propose()
            rival = self._proposer.rival(record.id) if record is not None else None
        except Exception as error:
            self.error = error
            return Searcher.FINISHED
        if record is None:
            return Searcher.FINISHED if self._proposer.done else None
        self._live[trial_id] = record.id
        return {"point": record.point.to_json(), "rival": rival.to_json() if rival is not None else None}

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        ours = self._live.pop(trial_id, None)
        if ours is None:
            return
        if error or result is None:
            reason = self._reasons.get(trial_id, "Ray Tune stopped it before it ran")
            outcome = Outcome.failed(f"the worker was lost: {reason}")
        else:
            outcome = _outcome(result["outcome"][0])
        try:
            self._proposer.finish(ours, outcome)
        except Exception as failure:
            self.error = self.error or failure

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles itself for its own restore, which is not used."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the database has it."""

    def restore(self, checkpoint_path: str) -> None:
        raise StudyError("a sweep is not restored by Ray Tune; resume the study from the database instead")


def _outcome(fields: dict[str, Any]) -> Outcome:
    measurements = tuple(Measurement(**measurement) for measurement in fields["measurements"])
    return Outcome(TrialState(fields["state"]), measurements, fields["reason"], fields["wall_s"])


def _is_callable(evaluate: Evaluate) -> bool:
    return callable(evaluate)


def _require_loadable(reference: Any) -> None:
    """Fail once with a reason, not every trial, if a worker cannot load what it must run."""
    probe = ray.remote(num_cpus=1)(_is_callable)
    try:
        ray.get(probe.remote(reference))
    except ray.exceptions.RayError as error:
        raise StudyError(
            f"the Ray workers cannot load the evaluator: {' '.join(str(error).split())[-400:]}. Every module that "
            f"the model and the data come from must be importable from {Path.cwd()} or PYTHONPATH"
        ) from None
