"""Do harm to a study while it runs, in every way there is, and count what was lost, doubled, changed or left over.

    python -m experiments.reliability.chaos --rounds 50 --seed 1 --databases sqlite postgresql --workers 0 1 2

With `--workers 0` trials run in the driver, else on a Ray cluster of three nodes of one CPU. One worker must take the
course of a study that nothing befell. The database lies on a small file system of its own where one can be mounted
(as root), and a driver's clock is set wrong where there is a C compiler; harms that cannot be done are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.kits import postgres
from tests.kits.chaos import Tally, chaos
from tests.kits.harms import HARMS, Scene

os.environ.setdefault("RAY_worker_niceness", "0")
# By Ray's default of 15 a worker gets a thirtieth of a core that another process wants, too: starting takes minutes.

TRIALS = {False: 10, True: 30}
"""Trials of a round, without Ray and with it, where rounds take longer: the study should still run at the last."""

DISK_MB = {"sqlite": 24, "postgresql": 400}
OBJECT_STORE = 80 * 2**20


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path | None]:
    """Mount a file system of so many megabytes on a folder; None where that is not allowed."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=False)


@contextlib.contextmanager
def scene_of(database: str, workers: int, rng: random.Random) -> Iterator[Scene]:
    """A new database of this kind, and a cluster if there are workers."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="automl-chaos-")))
        folder.chmod(0o755)
        place = folder / "disk"
        place.mkdir()
        disk = stack.enter_context(small_disk(place, DISK_MB[database]))
        url, server = f"sqlite:///{place}/study.db", None
        if database == "postgresql":
            server = stack.enter_context(postgres.server(place))
            url = server.get_uri(driver="psycopg")
        nodes = None
        if workers:
            from tests.kits.ray_nodes import cluster

            nodes = stack.enter_context(cluster(3, object_store_memory=OBJECT_STORE))
        scene = Scene(url, folder, rng, (), nodes, server, disk)
        try:
            yield scene
        finally:
            for driver in scene.drivers:
                driver.kill()


def line(database: str, workers: int, tally: Tally) -> str:
    """A row of the table."""
    harms = ", ".join(f"{name} {n}" for name, n in sorted(tally.harms.items()))
    same = ("yes" if tally.same_course else "NO") if workers < 2 else "-"
    cells = (
        *(database, workers or "none", harms, tally.trials, tally.lost, tally.doubled, tally.left_running),
        *(tally.cut_short, tally.miscounted, tally.not_in_optuna, same, len(tally.tracebacks), round(tally.seconds)),
    )
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=50, help="of each line of the table")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--databases", nargs="+", choices=sorted(DISK_MB), default=["sqlite", "postgresql"])
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="of Ray; 0: the driver's own process")
    parser.add_argument("--harms", nargs="+", choices=list(HARMS), default=[], help="these in turn; default: all")
    args = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s")
    logging.getLogger("tests.kits").setLevel(logging.INFO)
    print(f"--seed {args.seed}", flush=True)
    print("| database | workers | harms | trials | lost | doubled | left running | attempts cut short | miscounted |")
    wrong = []
    for database in args.databases:
        for workers in args.workers:
            rng = random.Random(f"{args.seed} {database} {workers}")
            with scene_of(database, workers, rng) as scene:
                options = {"rounds": args.rounds, "workers": workers, "trials": TRIALS[workers > 0] * args.rounds}
                tally = chaos(scene, **options, harms=args.harms)
            print(line(database, workers, tally), flush=True)
            for end, n in tally.ends.most_common():
                print(f"  {n} x {end}", flush=True)
            wrong += [f"{database}, {workers} workers: {what}" for what in tally.wrong]
            if workers < 2 and not tally.same_course:
                wrong.append(f"{database}, {workers} workers: another course")
            for text in tally.tracebacks + tally.stray:
                print(text, file=sys.stderr)
    sys.exit("\n".join(wrong) or 0)


if __name__ == "__main__":
    main()
