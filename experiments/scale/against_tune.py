"""Our driver beside Ray Tune with its own `OptunaSearch`: the same space of 27 knobs, workers and trials, in one run.

Ours: RayTuneRunner, a Session of the agent `tpe`, the SQLite store, Optuna's tables in the background. Tune: Tuner,
OptunaSearch with Optuna's TPESampler and RDBStorage in SQLite, a class of workers that are reused, snapshots as Tune
takes them by default. A trial sleeps, and reports five numbers. Ours keeps a budget of half the MACs, which costs it
time; Optuna's search has none. Both are timed from the end of the first trial to the end of the last. Where other
programs share the machine the driver's CPU time says more than trials a minute.

    python experiments/scale/against_tune.py --trials 200 --slow-trials 40 --out experiments/scale/against_tune.md
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # for tests.kits

import automl.runners.ray_cluster as cluster  # before anything of Ray: it sets how Ray is imported

# isort: split
import optuna
from ray import tune
from ray.tune.search.optuna import OptunaSearch
from study import GOAL

import agents
from automl.lanes.session import Session
from automl.runners.ray_tune import RayTuneRunner
from automl.store import LiveProjection, OptunaProjection, open_store
from automl.testing.toy_space import ToySpace
from automl.types import Measurement, Outcome
from search_spaces import Point

SPACE = ToySpace(widths=(64,) * 27, strides=(1,) * 27, image=8, min_keep=1 / 16, step=4)
LIMITS = {"macs": SPACE.cost(SPACE.point([64] * 27), "macs") / 2}
METRICS = ("accuracy", "loss", "macs", "params", "size_bytes")


def worth(levels: dict[str, int]) -> dict[str, float]:
    """What a trial reports: best where layers alternate between a quarter and three quarters."""
    wanted = [16 if i % 2 else 48 for i in range(27)]
    accuracy = 1 - sum(abs(levels[f"conv{i}"] - w) for i, w in enumerate(wanted)) / 27 / 48
    return dict.fromkeys(METRICS, accuracy)


class Sleeps:
    """Our trial."""

    def __init__(self, wait_s: float) -> None:
        self.wait_s = wait_s

    def __call__(self, point: Point, rival: Point | None = None) -> Outcome:
        time.sleep(self.wait_s)
        return Outcome.done([Measurement(metric, value) for metric, value in worth(dict(point)).items()])


class TuneSleeps(tune.Trainable):
    """The same for Tune."""

    def setup(self, config: dict[str, Any]) -> None:
        self.levels = dict(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.levels = dict(new_config)
        return True

    def step(self) -> dict[str, Any]:
        time.sleep(self.levels["wait_s"])
        return {**worth(self.levels), "done": True}


class Clock:
    """Adds up what the search and the record take of the driver, and notes when trials end."""

    def __init__(self) -> None:
        self.spent_s = 0.0
        self.ends: list[float] = []
        self.cpu_s: list[float] = []  # of this process with all its threads, at each of the ends

    def timed(self, function: Callable[..., Any], ends: bool = False) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if ends:
                self.ends.append(time.perf_counter())
                self.cpu_s.append(time.process_time())
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.spent_s += time.perf_counter() - started

        return call


class TimedSearch(OptunaSearch):
    """Tells the time it takes to a clock of the class: Tune pickles what an instance has."""

    clock = Clock()

    def suggest(self, trial_id: str) -> Any:
        return self.clock.timed(super().suggest)(trial_id)

    def on_trial_result(self, trial_id: str, result: dict) -> None:
        self.clock.timed(super().on_trial_result)(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        self.clock.timed(super().on_trial_complete, ends=True)(trial_id, result, error)


def ours(folder: str, n: int, workers: int, wait_s: float) -> Clock:
    clock = Clock()
    with open_store(f"{folder}/ours.db") as store:
        config = {
            "knobs": [{"name": k.name, "levels": list(k.levels), "unit": k.unit} for k in SPACE.knobs],
            "goal": {"metric": GOAL.metric, "direction": GOAL.direction},
            "limits": LIMITS,
        }
        study = store.create_study("ours", config, code_version="", environment={})
        with store.drive(study.id):
            projection = LiveProjection(OptunaProjection.of(store, study))
            agent = agents.create("tpe", space=SPACE, goal=GOAL, limits=LIMITS, seed=0, trials=n)
            session: Any = Session(store, study, "tpe", 0, agent, n, observers=[projection.record])
            session.propose, session.rival = clock.timed(session.propose), clock.timed(session.rival)
            session.finish = clock.timed(session.finish, ends=True)
            RayTuneRunner(workers, threads=1).run(session, Sleeps(wait_s))
            projection.close()
        assert sum(record.state.value == "done" for record in store.trials(study.id)) == n
    return clock


def tunes(folder: str, n: int, workers: int, wait_s: float) -> Clock:
    clock = TimedSearch.clock = Clock()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder}/tune.db")
    space = {k.name: optuna.distributions.IntDistribution(4, 64, step=4) for k in SPACE.knobs}
    search = TimedSearch(
        {**space, "wait_s": optuna.distributions.CategoricalDistribution([wait_s])},
        metric="accuracy",
        mode="max",
        study_name="tune",
        storage=storage,
        sampler=optuna.samplers.TPESampler(seed=0),
    )
    tuner = tune.Tuner(
        tune.with_resources(TuneSleeps, {"cpu": 1}),
        tune_config=tune.TuneConfig(search_alg=search, num_samples=n, max_concurrent_trials=workers, reuse_actors=True),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=folder,
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # there is nothing to keep
        ),
    )
    with as_tune_has_it():
        results = tuner.fit()
    assert len(results) == n and not results.errors
    return clock


@contextlib.contextmanager
def as_tune_has_it() -> Iterator[None]:
    """Tune's defaults in place of what our runner sets: snapshots of the sweep, actors started one by one."""
    kept = {name: os.environ.pop(name, None) for name in ("TUNE_GLOBAL_CHECKPOINT_S", "TUNE_MAX_PENDING_TRIALS_PG")}
    try:
        yield
    finally:
        os.environ.update({name: value for name, value in kept.items() if value is not None})


def measure(run: Callable[..., Clock], n: int, workers: int, wait_s: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="automl-against-") as folder:
        began = time.perf_counter()
        clock = run(folder, n, workers, wait_s)
    span = clock.ends[-1] - clock.ends[0]
    return {
        "who": "ours" if run is ours else "Tune, OptunaSearch",
        "trial_s": wait_s,
        "trials": n,
        "per_minute": 60 * (n - 1) / span,
        "search_ms": 1e3 * clock.spent_s / n,
        "cpu_ms": 1e3 * (clock.cpu_s[-1] - clock.cpu_s[0]) / (n - 1),
        "in_trials": (n - 1) * wait_s / (workers * span),
        "start_s": clock.ends[0] - wait_s - began,
    }


def table(rows: list[dict[str, Any]]) -> str:
    head = (
        "| trial sleeps | driver | trials | trials a minute | search and record, ms a trial | driver's CPU, ms a trial "
        "| worker time in trials |"
    )
    lines = [head, "| ---: | --- | ---: | ---: | ---: | ---: | ---: |"]
    for r in rows:
        asleep = f"{r['in_trials']:.1%}" if r["trial_s"] >= 0.1 else ""
        lines.append(
            f"| {r['trial_s']:g} s | {r['who']} | {r['trials']} | {r['per_minute']:,.0f} | {r['search_ms']:.0f} "
            f"| {r['cpu_ms']:.0f} | {asleep} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=200, help="trials that sleep for 0 and 10 ms")
    parser.add_argument("--slow-trials", type=int, default=60, help="trials that sleep for 1 s; 0 for none")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="file for the table")
    args = parser.parse_args()
    rows = []
    cluster.start(args.workers)
    for wait_s, n in ((0.0, args.trials), (0.01, args.trials), (1.0, args.slow_trials)):
        for run in (ours, tunes) if n else ():
            rows.append(measure(run, n, args.workers, wait_s))
            print(json.dumps(rows[-1]), flush=True)
    print(table(rows))
    if args.out:
        args.out.write_text(table(rows))


if __name__ == "__main__":
    main()
