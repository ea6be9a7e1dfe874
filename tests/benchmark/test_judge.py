"""Agents judged on a table: deterministic, honest about regret, and the same as a recorded study."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest

import agents
from agents import TrialState
from automl.benchmark import judge, record, regret_after
from automl.errors import StudyError
from automl.lanes.session import Session
from automl.report.curves import draw_curves
from automl.runners import SerialRunner
from automl.store import open_store

TRIALS = 20


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path / "study.db") as store:
        yield store


@pytest.mark.parametrize("name", ["uniform", "random", "amc"])
def test_judging_twice_gives_the_same(table, name):
    options = {"hidden": 16} if name == "amc" else {}
    first, second = (judge(name, table, seeds=range(2), trials=TRIALS, options=options) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)
    assert len(first) == 2 * (1 if name == "uniform" else TRIALS)
    assert (first["state"] == "done").all()


def test_regret_is_what_the_best_so_far_lacks_to_the_optimum(table):
    judged = judge("random", table, seeds=[0], trials=TRIALS)
    best = np.maximum.accumulate(judged["value"])
    np.testing.assert_array_equal(judged["best"], best)
    np.testing.assert_allclose(judged["regret"], table.optimum - best)
    assert (judged["regret"] >= 0).all()


def test_regret_of_what_is_minimised_is_not_negative_either(table):
    judged = judge("random", table.aiming(agents.Goal("loss", "minimize")), seeds=[0], trials=TRIALS)
    assert (judged["regret"] >= 0).all() and (judged["best"].diff().dropna() <= 0).all()
    accuracy = judge("random", table, seeds=[0], trials=TRIALS)
    np.testing.assert_allclose(judged["regret"], accuracy["regret"], atol=1e-6)


def test_regret_of_random_falls_with_trials(table):
    """Fixed seeds, so it passes or fails for good: every seed's regret is lower after 60 trials than after 3."""
    judged = judge("random", table, seeds=range(5), trials=60)
    early, late = regret_after(judged, 3), regret_after(judged, 60)
    assert (late <= early).all() and late.mean() < 0.5 * early.mean()


def test_regret_after_an_agent_has_ended_is_its_last(table):
    judged = judge("uniform", table, seeds=[0, 1], trials=TRIALS)
    assert regret_after(judged, TRIALS).tolist() == judged["regret"].tolist()


def test_tighter_limits_have_an_optimum_of_their_own(table, within):
    tighter = table.limited({"macs": 0.6 * within["macs"]})
    judged = judge("random", tighter, seeds=[0], trials=TRIALS)
    assert (judged["state"] == "done").all()
    assert (judged["value"] <= tighter.optimum).all() and tighter.optimum < table.optimum


def test_a_recorded_study_takes_the_course_that_was_judged(table, store):
    study = record(store, "toy", table, ["random", "amc"], seeds=[0, 1], trials=12)
    for name in ("random", "amc"):
        judged = judge(name, table, seeds=[0, 1], trials=12)
        trials = store.trials(study.id, agent=name)
        assert [(t.seed, t.number, t.values["accuracy"]) for t in trials] == list(
            judged[["seed", "trial", "value"]].itertuples(index=False, name=None)
        )
        assert {t.state for t in trials} == {TrialState.DONE}
    assert draw_curves(store, study).exists()


def test_a_recorded_study_is_gone_on_with_and_another_table_is_refused(table, tmp_path, within):
    with open_store(tmp_path / "study.db") as store:
        study = record(store, "toy", table, ["amc"], seeds=[0], trials=TRIALS)
        through = [(t.point, t.values) for t in store.trials(study.id)]
    with open_store(tmp_path / "cut.db") as store:
        study = record(store, "toy", table, ["random"], seeds=[0], trials=1)
        with pytest.raises(StudyError, match="is another"):
            record(store, "toy", table.limited({"macs": 0.5 * within["macs"]}), ["random"], seeds=[0], trials=1)
    assert len(through) == TRIALS
    with open_store(shutil.copy(tmp_path / "study.db", tmp_path / "copy.db")) as store:
        study = record(store, "toy", table, ["amc"], seeds=[0], trials=TRIALS)
        assert [(t.point, t.values) for t in store.trials(study.id)] == through


def test_the_serial_runner_takes_a_table_for_its_evaluator(table, store, problem):
    """Interrupted in the middle and gone on with, a lane takes the course that was judged."""
    study = record(store, "toy", table, ["uniform"], seeds=[0], trials=1)

    def lane(observers=()):
        agent = agents.create("random", space=table.space, goal=table.goal, limits=table.limits, seed=3, trials=TRIALS)
        return Session(store, study, "random", 3, agent, TRIALS, observers=observers)

    def press(trial):
        if trial.number == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        SerialRunner().run(lane([press]), table)
    SerialRunner().run(lane(), table)
    values = [trial.values["accuracy"] for trial in store.trials(study.id, agent="random")]
    assert values == judge("random", table, seeds=[3], trials=TRIALS)["value"].tolist()
