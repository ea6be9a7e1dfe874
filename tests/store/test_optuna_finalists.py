"""Optuna's best trial of a study is the trial that was reported, also where finishing changes the order, and after an
import."""

from __future__ import annotations

import json
import subprocess
import sys

import optuna
import pytest

from automl.store import (
    OptunaProjection,
    Rule,
    conclude_study,
    export_studies,
    import_studies,
    open_store,
    remove_study,
)
from automl.store.optuna_projection import open_optuna_storage
from automl.types import Measurement, Phase
from tests.kits.stores import CONFIG, add_trial, new_study, outcome, point

BUDGET = Rule("macs <= 50%", "macs", Phase.FINAL, "at most", 1000.0, 900.0)


@pytest.fixture
def store(sqlite_url):
    with open_store(sqlite_url) as store:
        yield store


def finished(store, study, agent: str, number: int, searched: float, final: float, macs: float = 900.0, **more: float):
    """A trial that was searched with one value and finished with another."""
    trial = add_trial(store, study, agent, 0, number, point(conv1=number + 1), outcome(searched, macs))
    measured = {"accuracy": final, "macs": macs, **more}
    store.add_measurements(trial.id, [Measurement(name, value, phase=Phase.FINAL) for name, value in measured.items()])
    return trial


def project(store, name: str = "digits") -> None:
    projection = OptunaProjection.of(store, store.study(name))
    projection.sync(strict=True)
    projection.close()


def shown(store, name: str = "digits") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=open_optuna_storage(store.url))


def figures(store, name: str) -> list:
    """All that Optuna's studies of a study say, ids and times apart."""
    told = []
    for called in (name, f"{name}/amc/0", f"{name}/random/0"):
        trials = shown(store, called).get_trials()
        attributes = [{key: v for key, v in t.user_attrs.items() if key != "trial_id"} for t in trials]
        values = [(t.value, t.params, t.constraints, t.state) for t in trials]
        told.append((values, attributes))
    return told


@pytest.fixture
def study(store):
    """The best as searched is not the best as finished; the original is better than both."""
    study = new_study(store)
    finished(store, study, "base", 0, 0.95, 0.95, macs=2000)
    finished(store, study, "random", 0, 0.8, 0.6)
    winner = finished(store, study, "amc", 1, 0.7, 0.9)
    add_trial(store, study, "amc", 0, 2, point(conv1=9), outcome(0.65))
    project(store)  # as the search ended
    conclude_study(store, winner.id, [BUDGET], ["a note"])
    return study


def test_the_best_trial_is_the_one_that_was_reported(store, study):
    project(store)
    best = shown(store).best_trial
    assert (best.value, best.user_attrs["agent"], best.user_attrs["number"]) == (0.9, "amc", 1)
    assert best.user_attrs["reported"] and best.user_attrs["final_accuracy"] == 0.9
    assert best.user_attrs["accuracy"] == 0.7, "as searched"
    assert [t.value for t in shown(store).get_trials()] == [0.9, 0.6]
    told = shown(store).user_attrs
    assert told["winner"] == "amc/0/1" and told["rules"] == ["macs <= 50%: 900, at most 1000"]
    assert told["notes"] == ["a note"] and "best_trial" not in told
    lane = shown(store, "digits/random/0")
    assert lane.best_value == 0.8 and "in digits" in lane.user_attrs["values"]


def test_it_is_made_anew_only_if_figures_have_changed(store, study):
    project(store)
    first = shown(store)._study_id
    project(store)
    assert shown(store)._study_id == first
    better = finished(store, study, "random", 5, 0.5, 0.99)
    conclude_study(store, better.id, [BUDGET])
    project(store)
    assert shown(store).best_trial.user_attrs["trial_id"] == better.id and len(shown(store).get_trials()) == 3


def test_what_breaks_a_rule_is_infeasible(store, study):
    finished(store, study, "amc", 7, 0.8, 0.95, macs=1001)
    finished(store, study, "amc", 8, 0.8, 0.97, loss=0.5)
    finished(store, study, "amc", 9, 0.8, 0.85, loss=0.1)
    guarantee = Rule("loss <= 0.2", "loss", Phase.FINAL, "at most", 0.2, 0.1)
    least = Rule("accuracy >= 50%", "accuracy", Phase.FINAL, "at least", 0.5, 0.85)
    (winner,) = (t for t in store.trials(study.id) if t.values_of(Phase.FINAL).get("loss") == 0.1)
    conclude_study(store, winner.id, [BUDGET, guarantee, least])
    project(store)
    over = {}
    for trial in shown(store).get_trials():  # " ": beside its rules Optuna names the dashboard's numbers
        over[trial.value] = [text for text, excess in trial.constraints.items() if excess > 0 and " " in text]
    assert over[0.95] == ["macs <= 50%"] and over[0.97] == ["loss <= 0.2"] and over[0.85] == []


def test_where_optunas_rules_make_it_another_the_study_says_so(store, study):
    worse = next(t for t in store.trials(study.id) if t.agent == "random")
    conclude_study(store, worse.id, [BUDGET])
    project(store)
    assert shown(store).best_trial.user_attrs["agent"] == "amc"
    assert "the winner is 0: it has a better value" in shown(store).user_attrs["best_trial"]


def test_an_import_shows_the_same(store, study, tmp_path, postgres_url):
    project(store)
    export_studies(store, tmp_path / "x.gz")
    with open_store(postgres_url) as other:
        import_studies(other, tmp_path / "x.gz")
        project(other)
        assert figures(other, "digits") == figures(store, "digits")


def test_before_a_study_has_concluded_there_is_none_and_a_removed_one_leaves_none(store, study):
    new_study(store, "other", CONFIG)
    project(store, "other")
    project(store)
    names = optuna.get_all_study_names(open_optuna_storage(store.url))
    assert "digits" in names and "other" not in names
    remove_study(store, "digits")
    assert not [name for name in optuna.get_all_study_names(open_optuna_storage(store.url)) if "digits" in name]


def test_the_optuna_command_names_the_winner(sqlite_url):
    with open_store(sqlite_url) as store:
        study = new_study(store)
        finished(store, study, "random", 0, 0.8, 0.6)
        winner = finished(store, study, "amc", 1, 0.7, 0.9)
        conclude_study(store, winner.id, [BUDGET])
        project(store)
    command = ["best-trial", "--storage", sqlite_url, "--study-name", "digits", "-f", "json"]
    start = [sys.executable, "-c", "import sys; from optuna.cli import main; sys.exit(main())"]
    ran = subprocess.run([*start, *command], capture_output=True, text=True, check=True)
    told = json.loads(ran.stdout)["user_attrs"]
    assert told["reported"] is True and (told["agent"], told["number"]) == ("amc", 1)
