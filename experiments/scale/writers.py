"""64 simulated workers that finish at random; one driver writes, a process reads, and Optuna's tables are kept up.

Each worker is a thread that takes a trial, sleeps for a time drawn from an exponential distribution, and puts its
outcome into the driver's queue. The driver takes outcomes as they come: finish, then propose the next. A process of its
own reads the whole study every few seconds meanwhile, as a dashboard would.

    python experiments/scale/writers.py --out experiments/scale/writers.md
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import threading
import time
from pathlib import Path
from queue import SimpleQueue

import numpy as np
from study import database, new_study, open_session, outcome

from automl.store import LiveProjection, OptunaProjection, open_store


def read_always(url: str, reads, stop) -> None:
    with open_store(url, create=False) as store:
        study = store.study("scale")
        while not stop.is_set():
            store.trials(study.id)
            reads.value += 1
            stop.wait(5)


def run(kind: str, workers: int, trials: int, recorded: int, mean_s: float) -> dict:
    """Run `trials` trials; milliseconds of each write, and what went wrong."""
    with database(kind) as url, open_store(url) as store:
        study = new_study(store, recorded)
        processes = multiprocessing.get_context("spawn")
        reads, stop = processes.Value("i", 0), processes.Event()
        reader = processes.Process(target=read_always, args=(url, reads, stop))
        reader.start()
        outcomes: SimpleQueue = SimpleQueue()
        points: SimpleQueue = SimpleQueue()

        def work(seed: int) -> None:
            rng = random.Random(seed)
            while (trial := points.get()) is not None:
                time.sleep(rng.expovariate(1 / mean_s))
                outcomes.put((trial, outcome(trial)))

        threads = [threading.Thread(target=work, args=(seed,), daemon=True) for seed in range(workers)]
        for thread in threads:
            thread.start()
        proposed, finished = [], []
        with store.drive(study.id):
            projection = LiveProjection(OptunaProjection.of(store, study))
            session = open_session(store, study, trials, observers=[projection.record])

            def propose() -> None:
                started = time.perf_counter()
                record = session.propose()
                if record is not None:
                    proposed.append(1e3 * (time.perf_counter() - started))
                    points.put(record.id)

            began = time.perf_counter()
            for _ in range(workers):
                propose()
            while not session.done:
                trial, result = outcomes.get()
                started = time.perf_counter()
                session.finish(trial, result)
                finished.append(1e3 * (time.perf_counter() - started))
                propose()
            wall_s = time.perf_counter() - began
            projection.close()
        for _ in threads:
            points.put(None)
        stop.set()
        reader.join()
        orders = sorted(t.finish_order for t in store.trials(study.id))
        assert orders == list(range(1, recorded + trials + 1)), "lost or doubled"
    return {
        "database": kind,
        "a second": trials / wall_s,
        "reads": reads.value,
        "finish": np.quantile(finished, [0.5, 0.95, 0.99, 1.0]),
        "propose": np.quantile(proposed, [0.5, 0.95, 0.99, 1.0]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--recorded", type=int, default=1000, help="trials on record before")
    parser.add_argument("--mean-s", type=float, default=2.0, help="mean duration of a trial")
    args = parser.parse_args()
    lines = [
        f"{args.workers} workers, {args.trials:,} trials of {args.mean_s:g} s on average, {args.recorded:,} on record.",
        "No lock error, no trial lost or doubled.",
        "",
        "| database | write | median ms | 95 % | 99 % | most | trials a second | whole reads meanwhile |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for kind in ("sqlite", "postgresql"):
        row = run(kind, args.workers, args.trials, args.recorded, args.mean_s)
        for write in ("finish", "propose"):
            numbers = " | ".join(f"{value:.1f}" for value in row[write])
            lines.append(f"| {kind} | {write} | {numbers} | {row['a second']:.0f} | {row['reads']} |")
        print("\n".join(lines[-2:]), flush=True)
    args.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
