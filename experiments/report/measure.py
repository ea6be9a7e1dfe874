"""How long the report of a large study takes, and how large it is: `python experiments/report/measure.py`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from automl.store import open_store
from tests.kits.told_studies import conclude, tell_study

SIZES = ((200, 8), (2_000, 50), (10_000, 50))
"""Trials and decisions."""


def main() -> None:
    print(f"{'trials':>7} {'decisions':>9} {'database':>10} {'report':>8} {'seconds':>8}")
    for trials, knobs in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            database, page = Path(folder) / "study.db", Path(folder) / "report.html"
            with open_store(database) as store:
                conclude(store, tell_study(store, trials=trials, knobs=knobs))
            began = time.monotonic()
            command = [sys.executable, "-m", "automl.cli", "report", "told", "--storage", f"sqlite:///{database}"]
            subprocess.run([*command, "--out", str(page)], check=True, stdout=subprocess.DEVNULL)
            took = time.monotonic() - began
            sizes = [f"{file.stat().st_size / 1e6:.1f} MB" for file in (database, page)]
            print(f"{trials:>7,} {knobs:>9} {sizes[0]:>10} {sizes[1]:>8} {took:>8.1f}", flush=True)


if __name__ == "__main__":
    main()
