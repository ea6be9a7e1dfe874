"""Harm done to a study that runs in its driver: nothing that finished is lost, doubled or changed.

The seed is random, and printed when the test fails; AUTOML_CHAOS_SEED sets it. No statistics are involved: what is
asserted holds for every seed. `experiments/reliability/chaos.py` does more of it, with Ray too.
"""

from __future__ import annotations

import os
import random

import pytest

from tests.kits.chaos import chaos
from tests.kits.harms import Scene

SEED = int(os.environ.get("AUTOML_CHAOS_SEED", random.SystemRandom().randrange(10**6)))
HARMS = {
    "sqlite": ("driver dies", "memory is short", "clock is wrong"),
    "postgres": ("server crashes", "driver dies", "line is dead"),
}


@pytest.mark.parametrize("kind", sorted(HARMS))
def test_nothing_is_lost_or_doubled_whatever_befalls(kind, request, tmp_path):
    print(f"AUTOML_CHAOS_SEED={SEED}")
    server = request.getfixturevalue("postgres") if kind == "postgres" else None
    scene = Scene(request.getfixturevalue(f"{kind}_url"), tmp_path, random.Random(f"{SEED} {kind}"), (), None, server)
    tally = chaos(scene, rounds=3, workers=0, trials=30, wait_s=0.1, harms=HARMS[kind])
    assert tally.wrong == [] and tally.same_course
    assert tally.harms.total() == 3 and tally.trials == 30
    assert tally.most_in_flight <= 1, "one process has one trial in flight"
