"""How long agents take to propose trials, in this code and in an earlier one.

    python experiments/proposals/run.py OLD

OLD is a folder with the packages of another commit (`git archive COMMIT agents automl search_spaces | tar -x -C OLD`).
For each space and agent, `play.py` is run by both in turn, in processes of their own; the ratio is of processor time in
the agent. Proposals have to be the same, Point for Point, and it is said if they are not.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SPACES = ("macs", "size", "latency", "cells")
AGENTS = ("random", "evolution", "local_search", "bo", "exact")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("--spaces", nargs="+", default=SPACES)
    parser.add_argument("--agents", nargs="+", default=AGENTS)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    for space in args.spaces:
        for agent in args.agents:
            if space == "cells" and agent == "exact":  # which takes no choices
                continue
            codes = (args.old, HERE.parents[1])
            rounds = [[played(code, space, agent, args.trials) for code in codes] for _ in range(args.rounds)]
            before, now = (statistics.median(row[i]["s"] for row in rounds) for i in (0, 1))
            ratio = statistics.median(old["s"] / new["s"] for old, new in rounds)
            same = {found["digest"] for row in rounds for found in row}
            told = "" if len(same) == 1 else "  OTHER POINTS"
            print(f"{space:8} {agent:14} {before:8.2f} s {now:8.2f} s {ratio:6.2f} times as fast{told}", flush=True)


def played(code: Path, space: str, agent: str, trials: int) -> dict[str, Any]:
    """What `play.py` tells of the packages in a folder."""
    command = [sys.executable, str(HERE / "play.py"), space, agent, "--trials", str(trials)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(code.resolve())}, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    return {"s": found["made_s"] + found["played_s"], "digest": found["digest"]}


if __name__ == "__main__":
    main()
