"""A study without a budget, searched for N2N's and ESNAC's reward."""

from __future__ import annotations

import pytest

from automl.store import open_store
from automl.types import Phase
from tests.cli.conftest import automl as command

CHANGES = (
    ("budget: macs <= 12%\n", "objective: compression_reward\n"),
    ("trials: 60", "trials: 7"),
    ("agent: amc", "agent: {name: bo, startup: 3, candidates: 50}"),
)


def test_every_trial_has_the_reward_and_the_best_of_it_wins(study_file, tmp_path):
    ran = command("search", study_file(*CHANGES), "--storage", tmp_path / "study.db")
    assert ran.code == 0, ran.err
    with open_store(tmp_path / "study.db", create=False) as store:
        study = store.study("amc-digits")
        trials = store.trials(study.id)
    assert study.config["goal"] == {"metric": "compression_reward", "direction": "maximize"}
    base = next(trial for trial in trials if trial.agent == "base").values
    assert base["compression_reward"] == 0
    for trial in trials:
        c = 1 - trial.values["params"] / base["params"]
        expected = c * (2 - c) * trial.values["accuracy"] / base["accuracy"]
        assert trial.values["compression_reward"] == pytest.approx(expected)
    assert "compression_reward" in ran.out.splitlines()[0]
    lanes = [trial for trial in trials if trial.agent != "base"]
    assert {trial.agent for trial in lanes} == {"uniform", "random", "bo"}
    finished = [trial for trial in lanes if "compression_reward" in trial.values_of(Phase.FINAL)]
    best = max(finished, key=lambda trial: trial.values_of(Phase.FINAL)["compression_reward"])
    assert f"trial {best.number} of {best.agent}, seed 0" in ran.out
