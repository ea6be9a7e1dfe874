"""How many random networks a run of the tests tries: some, or with `AUTOML_TESTS=all` all that were ever meant."""

from __future__ import annotations

import os

ALL = os.environ.get("AUTOML_TESTS") == "all"


def of(every: int, usual: int) -> int:
    """`usual`, or `every` one if all are asked for."""
    return every if ALL else usual
