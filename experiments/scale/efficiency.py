"""The part of the workers' time that is spent in trials, where a trial is a sleep.

From the first trial's start to the last one's end, as the database has them: the starts of Ray and of the workers, paid
once, are told apart.

    python experiments/scale/efficiency.py --workers 2 --trials 60 --wait-s 1
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # for tests.kits

from automl.runners.ray_tune import RayTuneRunner
from automl.store import LiveProjection, OptunaProjection, open_store
from automl.testing.toy_space import toy_problem
from tests.kits.toy_driver import SleepyEvaluator, new_toy_study, toy_session


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--wait-s", type=float, default=1.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="automl-efficiency-") as folder, open_store(f"{folder}/study.db") as store:
        study = new_toy_study(store)
        projection = LiveProjection(OptunaProjection.of(store, study))
        runner = RayTuneRunner(args.workers, threads=1)
        ends: list[float] = []
        session = toy_session(
            store, study, args.trials, [projection.record, lambda trial: ends.append(time.monotonic())]
        )
        began = time.monotonic()
        try:
            with store.drive(study.id):
                runner.run(session, SleepyEvaluator(toy_problem(), args.wait_s))
        finally:
            runner.close()
            projection.close()
        trials = store.trials(study.id)
    slept = sum(trial.wall_s or 0.0 for trial in trials if trial.repeat_of is None)
    evaluated = [trial for trial in trials if trial.repeat_of is None]
    # The workers' first trials end one trial's time after the workers are there.
    span = ends[-1] - (ends[0] - args.wait_s)
    print(
        json.dumps(
            {
                "workers": args.workers,
                "trials evaluated": len(evaluated),
                "seconds in trials": round(slept, 2),
                "seconds from the first start to the last end": round(span, 2),
                "fraction of worker time in trials": round(slept / (args.workers * span), 4),
                "seconds until the first worker was there": round(ends[0] - args.wait_s - began, 2),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
