"""A study on three Ray nodes: one is lost, one is gained; driver, worker and node are killed; all trials finish once.

AUTOML_CHAOS_SEED sets the seed of the moments; it is printed when a test fails. What is asserted holds for every seed.
"""

from __future__ import annotations

import os
import random

import pytest

pytestmark = pytest.mark.slow

SEED = int(os.environ.get("AUTOML_CHAOS_SEED", random.SystemRandom().randrange(10**6)))


@pytest.fixture(scope="module")
def nodes():
    """A cluster of a head and three nodes with one CPU each."""
    from tests.kits.ray_nodes import cluster

    with cluster(3) as nodes:
        yield nodes


def test_a_node_is_taken_away_and_one_is_added_midway(nodes, tmp_path):
    from tests.kits.ray_nodes import lose_and_gain

    found = lose_and_gain(nodes, tmp_path, trials=9, wait_s=0.4)
    assert found["done"] == found["trials"] == 9 and found["each finished once"]
    assert len(found["tried again"]) == 1 and found["tried again"][0].startswith("the worker was lost: ")
    assert found["and finished elsewhere"]


def test_nothing_is_lost_or_doubled_whoever_is_killed(nodes, tmp_path):
    from tests.kits.chaos import chaos
    from tests.kits.harms import Scene

    print(f"AUTOML_CHAOS_SEED={SEED}")
    scene = Scene(f"sqlite:///{tmp_path}/study.db", tmp_path, random.Random(SEED), (), nodes)
    harms = ("worker dies", "driver dies")  # a node is lost above
    tally = chaos(scene, rounds=2, workers=1, trials=16, harms=harms)
    assert tally.wrong == [] and (tally.trials, tally.harms.total()) == (16, 2)
    assert tally.most_in_flight <= 1 and tally.cut_short <= 2
    assert tally.same_course, "one worker takes the course of a study that ran through in one process"
