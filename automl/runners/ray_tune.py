"""A Ray Tune sweep. Tune runs the trials and remembers nothing: the database does, and resume is replay."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Before anything else of Ray: it sets how Ray is imported.
from automl.runners.ray_cluster import require_one_machine, start

# isort: split
import ray
from ray import tune
from ray.tune.search import Searcher

from agents import TrialState
from automl.errors import StudyError
from automl.lanes.session import Proposer
from automl.runners.base import Evaluate
from automl.runners.ray_hooks import NOT_STARTED, Deadlines, Interrupt, KeepWorkers
from automl.runners.ray_schedulers import Schedule
from automl.runners.ray_worker import worker
from automl.types import Measurement, Outcome

if TYPE_CHECKING:
    from automl.store import TrialRecord

__all__ = ["RayTuneRunner", "Schedule"]


class RayTuneRunner:
    """Up to `workers` trials at once, each in a process that holds the model and the data from its start.

    A cluster is started on first use and stopped by `close`; one that runs already in this process is used and left
    alone, and so is one at `address`, or at RAY_ADDRESS. A trial takes `cpus` and `gpus` of it, parts of a GPU
    included, and computes on `threads` threads. One that takes longer than `timeout_s` seconds loses its worker; the
    time in which it is paused does not count.

    With a `schedule` the trials are trained, `evaluate` is a `Trains`, and a scheduler of Tune's decides after every
    epoch which of them go on. All trials of a sweep are compared with each other: it should have one lane.
    """

    def __init__(
        self,
        workers: int,
        *,
        threads: int = 1,
        address: str | None = None,
        cpus: float = 1.0,
        gpus: float = 0.0,
        timeout_s: float | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        self._workers = workers
        self._schedule = schedule
        self._threads = threads
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
            if self._schedule is not None and self._schedule.options.name == "hyperband":
                require_one_machine()
            self._sweep(proposer, evaluate)

    def _sweep(self, proposer: Proposer, evaluate: Evaluate) -> None:
        reference = ray.put(evaluate)
        reasons: dict[str, str] = {}
        schedule = self._schedule
        searcher = _SessionSearcher(proposer, self._workers, reasons, schedule)
        scheduler = schedule.made(self._workers, reasons, proposer.finished) if schedule else None
        interrupt = Interrupt(lambda: searcher.error is not None)
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(self._workers)  # 1 by default, which starts one by one
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # every outcome reaches the database, with its reason
        with tempfile.TemporaryDirectory(prefix="automl-ray-") as folder:
            actor = worker(reference, self._threads, Path(folder, "training"), schedule.goal if schedule else None)
            tuner = tune.Tuner(
                tune.with_resources(actor, {"cpu": self._cpus, "gpu": self._gpus}),
                tune_config=tune.TuneConfig(
                    search_alg=searcher,
                    scheduler=scheduler or KeepWorkers(self._workers, reasons),
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


class _SessionSearcher(Searcher):
    """Our session behind Tune's Searcher: only names change.

    No more trials are out at a time than there are workers, those that are paused apart, however large the cluster: an
    agent learns from every trial that has ended before it proposes the next.
    """

    def __init__(self, proposer: Proposer, workers: int, reasons: Mapping[str, str], schedule: Schedule | None) -> None:
        super().__init__(metric="outcome", mode="max")
        self._proposer = proposer
        self._workers = workers
        self._reasons = reasons
        self._scheduler = schedule.options.name if schedule else ""
        self._paused: set[str] = set()  # Tune's trial ids
        self._parts: dict[str, list[Outcome]] = defaultdict(list)  # Tune's trial id -> what was reported of it
        self._live: dict[str, int] = {}  # Tune's trial id -> ours
        self._again: deque[TrialRecord] = deque()  # running still, and without a worker
        self._worked = False  # any worker
        self.error: Exception | None = None
        """What ends the sweep and is no trial's fault, such as a full disk. Tune would take it for the trial's."""

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> Any:
        if self.error is not None:
            return Searcher.FINISHED
        if len(self._live) - len(self._paused) >= self._workers:
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
        return {
            "id": record.id,
            "number": record.number,
            "point": record.point.to_json(),
            "rival": rival.to_json() if rival is not None else None,
        }

    def on_pause(self, trial_id: str) -> None:
        """HyperBand tells that a trial waits for others."""
        self._paused.add(trial_id)

    def on_unpause(self, trial_id: str) -> None:
        """The same when it goes on."""
        self._paused.discard(trial_id)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Keep what a trial came to that goes on, or pauses."""
        self._worked = True
        self._parts[trial_id].append(_outcome(result["outcome"][0]))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        ours = self._live.pop(trial_id, None)
        parts = self._parts.pop(trial_id, [])
        self._paused.discard(trial_id)
        if ours is None:
            return
        try:
            stopped = self._reasons.get(trial_id, "Ray Tune stopped it before it ran")
            if stopped.startswith(NOT_STARTED) and not self._worked:
                self.error = self.error or _not_loadable(stopped)
                return
            self._worked |= result is not None
            if result is not None and result["outcome"]:
                last = _outcome(result["outcome"][0])
                parts += [last] if last not in parts[-1:] else []  # it may have been told when it paused
            whole = result is None or result["outcome"]  # of one that was paused nothing more is told
            if parts and whole and not error:
                self._proposer.finish(ours, self._joined(parts))
                return
            record = self._proposer.fail_attempt(ours, (result or {}).get("lost", stopped))
            if not record.state.finished:
                self._again.append(record)
        except Exception as failure:
            self.error = self.error or failure

    def _joined(self, parts: Sequence[Outcome]) -> Outcome:
        """The outcome of a trial of which so much was reported, epoch by epoch."""
        last = replace(parts[-1], wall_s=sum(part.wall_s for part in parts))
        if last.state is TrialState.FAILED:
            return last
        earlier = [m for part in parts[:-1] for m in part.measurements if m.step]
        reason = last.reason
        if self._scheduler and last.state is TrialState.STOPPED:
            reason = f"stopped by {self._scheduler} {last.reason}"
        return replace(last, measurements=(*earlier, *last.measurements), reason=reason)

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


def _not_loadable(reason: str) -> StudyError:
    """What to say once, rather than of every trial, where a worker cannot load what it must run."""
    return StudyError(
        f"the Ray workers cannot load the evaluator: {reason.removeprefix(NOT_STARTED + ': ')}. Every module that "
        f"the model and the data come from must be importable from {Path.cwd()} or PYTHONPATH"
    )
