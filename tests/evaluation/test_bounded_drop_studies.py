"""Studies with a guaranteed drop and no budget, searched for the reward of Huang et al. 2018."""

import math

import pytest

import automl
from automl.errors import AutomlError
from automl.store import open_store
from automl.study.selection import final
from automl.types import BASE
from tests.kits.digits import held_out, problem, train_batches


def compress(storage, guarantee, **changes):
    arguments = {"budget": None, "objective": "bounded_drop", "agent": "layer_by_layer", "baselines": [], "trials": 6}
    network, data = problem("small_cnn").model, (train_batches(0)[:4], held_out())
    kept = {"guarantee": guarantee, "storage": storage, "name": "s", "progress": False}
    return automl.compress(network, *data, **arguments | kept | changes)


def test_the_winner_is_smaller_than_the_original_and_loses_no_more_than_is_guaranteed(tmp_path):
    """Every trial has the reward by the formula; the first is the original, and worth nothing."""
    found = compress(tmp_path / "s.db", "accuracy drop <= 20%")
    with open_store(tmp_path / "s.db") as store:
        base, *trials = store.trials(store.study("s").id)
    assert base.agent == BASE and base.values["bounded_drop"] == trials[0].values["bounded_drop"] == 0
    for trial in trials:
        psi = 1 - (base.values["accuracy"] - trial.values["accuracy"]) / 0.2
        smaller = base.values["params"] / trial.values["params"]
        assert trial.values["bounded_drop"] == pytest.approx(psi * math.log(smaller))
    winner = next(trial for trial in trials if trial.point == found.point)
    assert winner.values["params"] < base.values["params"]
    assert base.values["accuracy"] - final(winner, "accuracy") <= 0.2


def test_without_a_drop_above_0_of_what_is_judged_there_is_no_such_objective(tmp_path):
    for guarantee in (None, "accuracy >= 90%", "accuracy drop <= 0%"):
        with pytest.raises(AutomlError, match="against a bound above 0: set `guarantee: accuracy drop"):
            compress(tmp_path / "s.db", guarantee)
    with pytest.raises(AutomlError, match="does not lower params"):
        compress(tmp_path / "s.db", "accuracy drop <= 1%", space="code", agent="random")
