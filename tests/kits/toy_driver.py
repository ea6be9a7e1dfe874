"""A process that drives a made-up study, for tests and experiments that end such processes.

    python -c "from tests.kits.toy_driver import main; main()" URL --workers 2 --trials 40 --wait-s 0.2

The study "toy" must be in the database. The process writes a line of JSON for every trial that has finished.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import torch

import agents
from agents import Goal
from automl.commands.interrupt import ends_on_ctrl_c
from automl.config.schedulers import SchedulerOptions
from automl.errors import AutomlError
from automl.lanes.session import Session
from automl.runners import Runner, SerialRunner
from automl.store import LiveProjection, OptunaProjection, Store, StudyRecord, TrialRecord, open_store
from automl.testing.toy_space import ToyAccuracy, toy_problem
from automl.types import Measurement, Outcome
from search_spaces import Point

GOAL = Goal("accuracy", "maximize")
ROOT = Path(__file__).resolve().parents[2]


class SleepyEvaluator:
    """The made-up accuracy after `wait_s` seconds; with the process, and the raylet (the Ray node) that it belongs to.

    Those two are no part of what an agent chooses by. While the file `hold` is there, a trial does not end, and
    another file beside it says on which raylet (see `held`). It takes `mb` megabytes, which may not be had.
    """

    def __init__(self, problem: ToyAccuracy, wait_s: float, hold: Path | None = None, mb: int = 0) -> None:
        self.problem, self.wait_s, self.hold, self.mb = problem, wait_s, hold, mb

    def __call__(self, point: Point, rival: Point | None = None) -> Outcome:
        taken = torch.empty(self.mb * 2**20, dtype=torch.uint8)
        time.sleep(self.wait_s)
        del taken
        where = {"process": os.getpid(), "raylet": int(os.environ.get("RAY_RAYLET_PID", 0))}
        while self.hold is not None and self.hold.exists():
            self.hold.with_suffix(f".{where['raylet']}").touch()
            time.sleep(0.05)
        values = {"accuracy": self.problem(point), **where}
        return Outcome.done([Measurement(metric, value) for metric, value in values.items()])


def held(hold: Path) -> set[int]:
    """The raylets on which trials wait for `hold` to go."""
    return {int(path.suffix[1:]) for path in hold.parent.glob(f"{hold.stem}.*")}


class TrainedToy:
    """The made-up accuracy, reached by halves: after epoch k all but 2^-k of it. An epoch takes `wait_s` seconds."""

    def __init__(self, problem: ToyAccuracy, epochs: int, wait_s: float = 0.0) -> None:
        self.problem, self.epochs, self.wait_s = problem, epochs, wait_s

    def after(self, point: Point, epochs: int, checkpoint: Path) -> Outcome:
        """Raises unless the checkpoint is one epoch behind."""
        before = int(checkpoint.read_text()) if checkpoint.exists() else 0
        if epochs != before + 1:
            raise ValueError(f"epoch {epochs} after {before}")
        time.sleep(self.wait_s)
        checkpoint.write_text(str(epochs))
        accuracy = Measurement("accuracy", self.problem(point) * (1 - 0.5**epochs), step=epochs)
        cost = Measurement("macs", self.problem.space.cost(point, "macs"))
        if epochs < self.epochs:
            return Outcome.stopped(f"after {epochs} of {self.epochs} epochs", [accuracy, cost])
        return Outcome.done([accuracy, cost])

    def __call__(self, point: Point, rival: Point | None = None) -> Outcome:
        raise AssertionError("trials of a schedule are run epoch by epoch")


def new_toy_study(store: Store) -> StudyRecord:
    """The study that `main` drives."""
    problem = toy_problem()
    config = {
        "knobs": [{"name": k.name, "levels": list(k.levels), "unit": k.unit} for k in problem.space.knobs],
        "goal": {"metric": GOAL.metric, "direction": GOAL.direction},
        "limits": problem.limits,
    }
    return store.create_study("toy", config, code_version="1", environment={})


def toy_session(store: Store, study: StudyRecord, trials: int, observers=(), max_attempts: int = 3) -> Session:
    """The lane of the study: an agent whose every step depends on all before."""
    problem = toy_problem()
    agent = agents.create(
        "nsga2", space=problem.space, goal=GOAL, limits=problem.limits, seed=0, trials=trials, population=8
    )
    return Session(store, study, "nsga2", 0, agent, trials, observers=observers, max_attempts=max_attempts)


def told(trial: TrialRecord) -> list:
    """All that is known of a finished trial and must never change; as JSON gives it back."""
    accuracy = trial.values.get("accuracy")
    return [trial.id, trial.number, trial.finish_order, trial.point.key, trial.reason, accuracy, str(trial.finished)]


def course(store: Store, study: StudyRecord) -> list[tuple]:
    """What was tried and in which order it was learnt."""
    trials = store.trials(study.id)
    return [(t.number, t.finish_order, t.point, t.state, t.values.get("accuracy")) for t in trials]


def spawn_driver(
    url: str, *options: object, cwd: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """A process that drives the study; the first of a group, and with the usual Ctrl-C."""
    code = "from tests.kits.toy_driver import main; main()"
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code, url, *map(str, options)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--workers", type=int, default=0, help="0 for a serial run, else Ray")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--wait-s", type=float, default=0.1)
    parser.add_argument("--mb", type=int, default=0, help="what a trial takes of memory")
    parser.add_argument("--hold", type=Path, metavar="FILE", help="while it exists, no trial ends")
    parser.add_argument("--address")
    parser.add_argument("--attempts", type=int, default=3)
    parser.add_argument("--lease-s", type=float, default=60.0)
    parser.add_argument("--optuna", action="store_true", help="keep Optuna's tables up")
    parser.add_argument("--asha", type=int, metavar="EPOCHS", help="train so long, and let ASHA end trials")
    return parser.parse_args()


def _runner(args: argparse.Namespace) -> Runner:
    if not args.workers:
        return SerialRunner()
    from automl.runners.ray_tune import RayTuneRunner, Schedule

    schedule = Schedule(SchedulerOptions("asha", reduction=2.0), GOAL, args.asha) if args.asha else None
    return RayTuneRunner(args.workers, threads=1, address=args.address, schedule=schedule)


def main() -> None:
    """Run what is left of the study."""
    args = _arguments()
    out = sys.stdout  # while Ray runs, another takes its place

    def tell(trial: TrialRecord) -> None:
        print(json.dumps(told(trial)), file=out, flush=True)

    try:
        with open_store(args.url) as store, ends_on_ctrl_c("ended at once"):
            study, runner, problem = store.study("toy"), _runner(args), toy_problem()
            with contextlib.ExitStack() as stack:
                stack.enter_context(store.drive(study.id, lease_s=args.lease_s))
                observers = [tell]
                if args.optuna:
                    projection = stack.enter_context(closing(LiveProjection(OptunaProjection.of(store, study))))
                    observers.append(projection.record)
                session = toy_session(store, study, args.trials, observers, args.attempts)
                print(json.dumps("begins"), flush=True)
                stack.callback(runner.close)
                trained = TrainedToy(problem, args.asha, args.wait_s) if args.asha else None
                runner.run(session, trained or SleepyEvaluator(problem, args.wait_s, args.hold, args.mb))
            print(json.dumps("ends"), flush=True)
    except KeyboardInterrupt:
        sys.exit(130)
    except AutomlError as error:  # as the command line ends
        sys.exit(f"automl: {error}")
