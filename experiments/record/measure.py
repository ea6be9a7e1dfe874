"""How long commands and views take on the study of `fill.py`, cold: each in a process of its own, imports included.

Prints a markdown table: the least wall time of a few runs, and the processor time of that run, which other work on the
machine does not stretch.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

from automl.store.meanings import VIEWS

COMMANDS = (
    ["--help"],
    ["--version"],
    ["keys"],
    ["studies"],
    ["show", "ten-thousand"],
    ["show", "ten-thousand", "winner"],
    ["compare", "ten-thousand", "ten-thousand"],
    ["trials", "ten-thousand"],
    ["trials", "ten-thousand", "--where", "macs <= 50% and accuracy > 0.85", "--sort", "-accuracy", "--limit", "20"],
    ["trials", "ten-thousand", "--format", "csv"],
    ["trials", "ten-thousand", "--format", "json"],
)
WITHOUT_DATABASE = 3
QUERIES = (
    *(f"SELECT * FROM {view}" for view in VIEWS if view != "decision"),
    "SELECT * FROM decision WHERE trial_id = 5000",
    "SELECT operator, site, avg(keep) FROM decision GROUP BY operator, site",
    "SELECT d.site, d.keep FROM winner AS w JOIN decision AS d ON d.trial_id = w.trial_id",
)
QUERY = """
import sys, sqlalchemy as sa
with sa.create_engine(sys.argv[1]).connect() as connection:
    print(len(connection.exec_driver_sql(sys.argv[2]).fetchall()))
"""


def timed(command: list[str], repeats: int) -> tuple[float, float]:
    """Wall and processor time of the quickest of a few runs, in seconds."""
    runs = []
    for _ in range(repeats):
        before, started = os.times(), time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        wall, after = time.perf_counter() - started, os.times()
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        runs.append((wall, cpu))
    return min(runs)


def main() -> None:
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="+")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    columns = [url.partition(":")[0].partition("+")[0] for url in arguments.url]
    print("| what | " + " | ".join(f"{name}: wall, processor (s)" for name in columns) + " |")
    print("| --- |" + " ---: |" * len(columns))
    start = [sys.executable, "-m", "automl.cli"]
    for i, command in enumerate(COMMANDS):
        cells = []
        for url in arguments.url if i >= WITHOUT_DATABASE else arguments.url[:1]:
            storage = ["--storage", url] if i >= WITHOUT_DATABASE else []
            cells.append("{:.2f}, {:.2f}".format(*timed([*start, *command, *storage], arguments.repeats)))
        print(f"| `automl {' '.join(command)}` | " + " | ".join([*cells, ""][: len(columns)]) + " |", flush=True)
    for query in QUERIES:
        times = [timed([sys.executable, "-c", QUERY, url, query], arguments.repeats) for url in arguments.url]
        print(f"| `{query}` | " + " | ".join("{:.2f}, {:.2f}".format(*found) for found in times) + " |", flush=True)
    print("\nload average while it ran:", ", ".join(f"{load:.1f}" for load in os.getloadavg()))


if __name__ == "__main__":
    main()
