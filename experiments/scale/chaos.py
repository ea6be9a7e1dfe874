"""Kill -9, at random, the driver, a worker, a Ray node and the database of a study; count what was lost or doubled.

Half of the rounds with one worker, where the sequence of trials must be that of a study which nothing befell, half with
two. On SQLite, and on PostgreSQL, which is restarted as after a crash. The cluster has three nodes of one CPU.

    python experiments/scale/chaos.py --rounds 50 --out experiments/scale/chaos.md
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from study import server

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # for tests.kits

from tests.kits import postgres
from tests.kits.chaos import Tally, chaos
from tests.kits.ray_nodes import cluster

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

TRIALS = 8
"""Trials of a round: enough that the study still runs at the last."""


def on(kind: str, nodes: Cluster, workers: int, rounds: int, rng: random.Random) -> Tally:
    """The tally on a new database of this kind."""
    with tempfile.TemporaryDirectory(prefix="automl-chaos-") as name:
        folder, options = Path(name), {"rounds": rounds, "workers": workers, "trials": TRIALS * rounds}
        if kind == "sqlite":
            return chaos(f"sqlite:///{folder}/study.db", nodes, folder, rng, **options)
        with server() as running:
            url = running.get_uri(driver="psycopg")
            crash = lambda: postgres.restart(running, rng.uniform(0.0, 2.0))  # noqa: E731
            return chaos(url, nodes, folder, rng, restart_database=crash, **options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=50, help="on each database")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    print(f"--seed {args.seed}", flush=True)
    lines = [
        f"`python experiments/scale/chaos.py --rounds {args.rounds} --seed {args.seed}`",
        "",
        "| database | workers | killed | trials | lost | doubled | left running, most "
        "| attempts cut short | same course | s |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | --- | ---: |",
    ]
    for kind in args.databases:
        for i, workers in enumerate(args.workers):
            rounds = (args.rounds + i) // len(args.workers)
            with cluster(3) as nodes:
                tally = on(kind, nodes, workers, rounds, random.Random(f"{args.seed} {kind} {workers}"))
            killed = ", ".join(f"{n} {target}" for target, n in sorted(tally.kills.items()))
            same = ("yes" if tally.same_course else "NO") if workers == 1 else ""
            lines.append(
                f"| {kind} | {workers} | {killed} | {tally.trials} | {tally.lost} | {tally.doubled} | "
                f"{tally.most_in_flight} | {tally.cut_short} | {same} | {tally.seconds:.0f} |"
            )
            print(lines[-1], flush=True)
    if args.out:
        args.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
