"""A Ray Tune sweep. Tune runs the trials and remembers nothing: the database does, and resume is replay."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl.runners.ray_cluster import ray, start  # before anything else of Ray: it sets how Ray is imported

# isort: split
import torch
from ray import tune
from ray.tune.search import Searcher

from agents import TrialState
from automl.errors import StudyError
from automl.runners.base import Evaluate, OutOfMemoryError, run_trial
from automl.runners.ray_hooks import Deadlines, Interrupt, KeepWorkers
from automl.session import Proposer
from automl.types import Measurement, Outcome
from search_spaces import Point

if TYPE_CHECKING:
    from automl.store import TrialRecord


class RayTuneRunner:
    """Up to `workers` trials at once, each in a process that holds the model and the data from its start.

    A cluster is started on first use and stopped by `close`; one that runs already in this process is used and left
    alone, and so is one at `address`, or at RAY_ADDRESS. A trial takes `cpus` and `gpus` of it, parts of a GPU
    included, and computes on `threads` threads. One that takes longer than `timeout_s` seconds loses its worker.
    """

    def __init__(
        self,
        workers: int,
        *,
        threads: int | None = None,
        address: str | None = None,
        cpus: float = 1.0,
        gpus: float = 0.0,
        timeout_s: float | None = None,
    ) -> None:
        self._workers = workers
        self._threads = threads or max(1, (os.cpu_count() or 1) // workers)
        self._address = address
        self._cpus, self._gpus = cpus, gpus
        self._timeout_s = timeout_s
        self._started = False

    def run(self, proposer: Proposer, evaluate: Evaluate) -> None:
        """Take trials, evaluate them in the workers, hand back their outcomes, until `proposer.done`."""
        if proposer.done:
            return
        # Ray tells of lost workers and nodes on stdout, where results go.
        with contextlib.redirect_stdout(sys.stderr):
            if not ray.is_initialized():
                start(self._workers, address=self._address, cpus=self._cpus, gpus=self._gpus)
                self._started = True
            self._sweep(proposer, evaluate)

    def _sweep(self, proposer: Proposer, evaluate: Evaluate) -> None:
        reference = ray.put(evaluate)
        _require_loadable(reference, self._cpus)
        reasons: dict[str, str] = {}
        searcher = _SessionSearcher(proposer, self._workers, reasons)
        interrupt = Interrupt()
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(self._workers)  # 1 by default, which starts one by one
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # every outcome reaches the database, with its reason
        with tempfile.TemporaryDirectory(prefix="automl-ray-") as folder:
            tuner = tune.Tuner(
                tune.with_resources(_actor(reference, self._threads), {"cpu": self._cpus, "gpu": self._gpus}),
                tune_config=tune.TuneConfig(
                    search_alg=searcher,
                    scheduler=KeepWorkers(self._workers, reasons),
                    num_samples=-1,
                    reuse_actors=True,
                    trial_dirname_creator=lambda trial: trial.trial_id,
                ),
                run_config=tune.RunConfig(
                    name="study",
                    storage_path=folder,
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                    callbacks=[] if self._timeout_s is None else [Deadlines(self._timeout_s, reasons)],
                    stop=interrupt,
                    verbose=0,
                ),
            )
            with interrupt.listening():
                tuner.fit()
        if searcher.error is not None:
            raise searcher.error
        if not proposer.done:
            raise KeyboardInterrupt

    def close(self) -> None:
        """Stop the cluster if this runner has started it, or leave the one it has joined."""
        if self._started:
            with contextlib.redirect_stdout(sys.stderr):
                ray.shutdown()
            self._started = False


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
            try:
                outcome = run_trial(self._evaluate, self._point, self._rival)
            except OutOfMemoryError as error:
                return {"outcome": [], "lost": str(error), "done": True}
            return {"outcome": [asdict(outcome)], "done": True}

    return TrialActor


class _SessionSearcher(Searcher):
    """Our session behind Tune's Searcher: only names change.

    No more trials are out at a time than there are workers, however large the cluster: an agent learns from every
    trial that has ended before it proposes the next.
    """

    def __init__(self, proposer: Proposer, workers: int, reasons: Mapping[str, str]) -> None:
        super().__init__(metric="outcome", mode="max")
        self._proposer = proposer
        self._workers = workers
        self._reasons = reasons
        self._live: dict[str, int] = {}  # Tune's trial id -> ours
        self._again: deque[TrialRecord] = deque()  # running still, and without a worker
        self.error: Exception | None = None
        """What went wrong in this process, such as a full disk. Tune would take it for a failure of the trial."""

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict, **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> Any:
        if self.error is not None:
            return Searcher.FINISHED
        if len(self._live) >= self._workers:
            return None
        try:
            record = self._again.popleft() if self._again else self._proposer.propose()
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
        try:
            if not error and result is not None and result["outcome"]:
                self._proposer.finish(ours, _outcome(result["outcome"][0]))
                return
            stopped = self._reasons.get(trial_id, "Ray Tune stopped it before it ran")
            record = self._proposer.fail_attempt(ours, (result or {}).get("lost", stopped))
            if not record.state.finished:
                self._again.append(record)
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


def _require_loadable(reference: Any, cpus: float) -> None:
    """Fail once with a reason, not every trial, if a worker cannot load what it must run."""
    probe = ray.remote(num_cpus=cpus)(_is_callable)
    try:
        ray.get(probe.remote(reference))
    except ray.exceptions.RayError as error:
        raise StudyError(
            f"the Ray workers cannot load the evaluator: {' '.join(str(error).split())[-400:]}. Every module that "
            f"the model and the data come from must be importable from {Path.cwd()} or PYTHONPATH"
        ) from None
