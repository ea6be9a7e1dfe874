"""What a trial costs the driver, by how many are on record: ours beside plain Optuna, on SQLite and on PostgreSQL.

Ours: propose, rival and finish of a Session (write first, look for the Point in the record, learn), with its lease, and
with Optuna's tables kept up in the background. Optuna: ask, 27 suggestions, four user attributes, tell, with its
RandomSampler, which reads no history. Both ask for the next trial at once: nothing is hidden behind an evaluation.

    python experiments/scale/driver.py --out experiments/scale/driver
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import optuna  # now: not while trials are timed
import sqlalchemy as sa
from study import KNOBS, database, new_study, open_session, outcome

from automl.store import LiveProjection, OptunaProjection, open_store

SIZES = (100, 1000, 10_000, 50_000)
LIMIT_MS = 20.0


def timed(step: Callable[[], None], n: int) -> np.ndarray:
    """Milliseconds of each of `n` steps, after three that are not counted: [n]."""
    for _ in range(3):
        step()
    took = np.empty(n)
    for i in range(n):
        started = time.perf_counter()
        step()
        took[i] = 1e3 * (time.perf_counter() - started)
    return took


def ours(url: str, size: int, n: int) -> tuple[np.ndarray, dict[str, float]]:
    """The cost of each of `n` trials after `size`, and what opening the study cost."""
    with open_store(url) as store:
        study = new_study(store, size)
        with store.drive(study.id):
            projection = LiveProjection(OptunaProjection.of(store, study))
            started = time.perf_counter()
            session = open_session(store, study, n + 3, observers=[projection.record])
            opened_s = time.perf_counter() - started
            outcomes = iter([outcome(number) for number in range(n + 3)])

            def step() -> None:
                record = session.propose()
                assert record is not None
                session.rival(record.id)
                session.finish(record.id, next(outcomes))

            took = timed(step, n)
            projection.close()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return took, {"open_s": opened_s, "peak_mb": memory}


def optuna_alone(url: str, size: int, n: int) -> tuple[np.ndarray, dict[str, float]]:
    """The cost of each of `n` trials after `size` for Optuna by itself."""
    open_store(url).close()  # the same database: an SQLite file has its write-ahead log
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(study_name="plain", storage=url, sampler=optuna.samplers.RandomSampler(seed=0))

    def step() -> None:
        trial = study.ask()
        for knob in KNOBS:
            trial.suggest_int(knob.name, knob.levels[0], knob.levels[-1], step=4)
        for name in ("loss", "macs", "params", "size_bytes"):
            trial.set_user_attr(name, 0.5)
        study.tell(trial, 0.5)

    step()
    _copy_first_trial(url, size)
    return timed(step, n), {}


def _copy_first_trial(url: str, size: int) -> None:
    """Fill Optuna's tables with `size` trials like their first: by itself it would take hours."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        first = connection.scalar(sa.text("SELECT trial_id FROM trials"))
        columns = "number, study_id, state, datetime_start, datetime_complete"
        row = connection.execute(sa.text(f"SELECT {columns} FROM trials")).one()
        insert = sa.text(f"INSERT INTO trials ({columns}) VALUES (:number, :study_id, :state, :start, :complete)")
        more = [
            {"number": i, "study_id": row.study_id, "state": row.state, "start": row[3], "complete": row[4]}
            for i in range(1, size)
        ]
        connection.execute(insert, more)
        for table, copied in (
            ("trial_params", "param_name, param_value, distribution_json"),
            ("trial_values", "objective, value, value_type"),
            ("trial_user_attributes", "key, value_json"),
        ):
            connection.execute(
                sa.text(
                    f"INSERT INTO {table} (trial_id, {copied}) SELECT t.trial_id, "
                    f"{', '.join('p.' + name for name in copied.split(', '))} "
                    f"FROM trials t, {table} p WHERE p.trial_id = {first} AND t.trial_id <> {first}"
                )
            )
    engine.dispose()


def measure(kinds: Sequence[str], sizes: Sequence[int], n: int) -> list[dict]:
    rows = []
    for kind in kinds:
        for size in sizes:
            for who in ("ours", "Optuna"):
                with database(kind) as url:
                    took, more = ours(url, size, n) if who == "ours" else optuna_alone(url, size, max(20, n // 10))
                gc.collect()
                quantiles = dict(zip(("p50", "p95", "max"), np.quantile(took, [0.5, 0.95, 1.0]).tolist(), strict=True))
                row = {"database": kind, "who": who, "recorded": size, "mean": float(took.mean()), **quantiles, **more}
                print(json.dumps(row), flush=True)
                rows.append(row)
    return rows


def table(rows: list[dict]) -> str:
    head = "| database | | recorded trials | mean ms | median | 95 % | most | opening s |\n"
    head += "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n"
    lines = []
    for r in rows:
        numbers = f"{r['mean']:.1f} | {r['p50']:.1f} | {r['p95']:.1f} | {r['max']:.0f}"
        opening = f"{r['open_s']:.1f}" if "open_s" in r else ""
        lines.append(f"| {r['database']} | {r['who']} | {r['recorded']:,} | {numbers} | {opening} |\n")
    return head + "".join(lines)


def draw(rows: list[dict], path: Path) -> None:
    import matplotlib.pyplot as plt

    kinds = list(dict.fromkeys(row["database"] for row in rows))
    figure, grid = plt.subplots(1, len(kinds), figsize=(9, 3.4), sharey=True, squeeze=False, layout="constrained")
    axes = grid[0]
    for axis, kind in zip(axes, kinds, strict=True):
        for who in ("ours", "Optuna"):
            mine = [row for row in rows if row["database"] == kind and row["who"] == who]
            sizes = [row["recorded"] for row in mine]
            axis.plot(sizes, [row["p50"] for row in mine], "o-", label=f"{who}, median")
            axis.fill_between(sizes, [row["p50"] for row in mine], [row["p95"] for row in mine], alpha=0.2)
        axis.axhline(LIMIT_MS, color="grey", linestyle=":")
        axis.set(title=kind, xlabel="trials on record", xscale="log", yscale="log")
    axes[0].set_ylabel("driver's cost of a trial, ms\n(band: up to 95 %)")
    axes[0].legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="path of the results, without suffix")
    databases = ["sqlite", "postgresql"]
    parser.add_argument(
        "--databases", nargs="+", default=databases, choices=databases, help="others keep the rows they have in --out"
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--trials", type=int, default=300, help="trials measured; of Optuna a tenth")
    args = parser.parse_args()
    kept = json.loads(args.out.with_suffix(".json").read_text()) if args.out.with_suffix(".json").exists() else []
    rows = [row for row in kept if row["database"] not in args.databases]
    rows += measure(args.databases, args.sizes, args.trials)
    rows.sort(key=lambda row: row["database"], reverse=True)
    args.out.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")
    args.out.with_suffix(".md").write_text(table(rows))
    draw(rows, args.out.with_suffix(".png"))
    print(table(rows))


if __name__ == "__main__":
    main()
