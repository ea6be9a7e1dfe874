"""The accuracy-guaranteed protocol on the command line: no budget, error weighed with cost, a floor of accuracy."""

from __future__ import annotations

import math
import shutil

import pytest

from automl.store import open_store
from automl.types import Phase
from tests.cli.conftest import automl as command

TRIALS = 14
FREE = (("budget: macs <= 12%\n", "objective: error_log_macs\n"), ("trials: 60", f"trials: {TRIALS}"))


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A study of the digits without a budget, with a floor that only some networks reach."""
    from tests.cli.conftest import DIGITS

    text = DIGITS.read_text().replace("small_cnn.safetensors", str(DIGITS.with_name("small_cnn.safetensors")))
    for before, after in (*FREE, ("agent: amc", "agent: amc\nguarantee: accuracy drop <= 2%")):
        assert before in text
        text = text.replace(before, after)
    folder = tmp_path_factory.mktemp("free")
    (folder / "study.yaml").write_text(text)
    return folder / "study.db", command("search", folder / "study.yaml", "--storage", folder / "study.db")


def recorded(database):
    with open_store(database, create=False) as store:
        study = store.study("amc-digits")
        return study, store.trials(study.id)


def test_without_a_budget_networks_of_all_sizes_are_tried(searched):
    database, ran = searched
    assert ran.code == 0, ran.err
    study, trials = recorded(database)
    assert study.config["limits"] == {} and study.config["budget"] == []
    macs = {agent: [t.values["macs"] for t in trials if t.agent == agent] for agent in ("uniform", "random", "amc")}
    assert macs["uniform"] == [1_175_520]
    for agent in ("random", "amc"):
        assert len(macs[agent]) == TRIALS
        assert min(macs[agent]) < 0.25 * 1_175_520 and max(macs[agent]) > 0.4 * 1_175_520
    # AMC's own walks, after its warm-up of random ones, are not filled up to the whole network either.
    assert any(value < 1_175_520 for value in macs["amc"][TRIALS // 4 :])


def test_every_trial_has_the_objective_of_its_accuracy_and_macs(searched):
    for trial in recorded(searched[0])[1]:
        values = trial.values
        assert values["error_log_macs"] == pytest.approx((1 - values["accuracy"]) * math.log(values["macs"]))


def test_the_best_objective_of_those_that_keep_the_guarantee_wins(searched):
    database, ran = searched
    trials = recorded(database)[1]
    floor = next(t.values["accuracy"] for t in trials if t.agent == "base") - 0.02
    lanes = {t.agent for t in trials} - {"base"}
    kept = [t for t in trials if t.agent in lanes and t.values["accuracy"] >= floor]
    assert 0 < len(kept) < len(trials) - 1
    best = min(kept, key=lambda t: t.values["error_log_macs"])
    assert f"trial {best.number} of {best.agent}, seed 0, rebuilt, accuracy {best.values['accuracy']:.2%}" in ran.out
    assert "where 'accuracy drop <= 2%' is guaranteed" in ran.out
    assert "error_log_macs" in ran.out.splitlines()[0]
    shown = [t for t in trials if "accuracy" in t.values_of(Phase.TEST) and t.agent != "base"]
    assert all(t.values["accuracy"] >= floor for t in shown)


def test_it_goes_on_and_is_exported_like_any_study(searched, tmp_path):
    copy = shutil.copy(searched[0], tmp_path / "copy.db")
    assert command("resume", "amc-digits", "--storage", copy).code == 0
    ran = command("export", "amc-digits", "--storage", copy, "--out", tmp_path / "w", "--format", "safetensors")
    assert ran.code == 0 and ran.out.splitlines()[0].endswith("seed 0:")
    assert " - " in command("studies", "--storage", copy).out


def test_a_guarantee_nothing_keeps_is_told_with_the_best_there_was(study_file, tmp_path):
    study = study_file(
        ("macs <= 12%", "macs <= 5%"),
        ("trials: 60", "trials: 3"),
        ("agent: amc", "agent: amc\nguarantee: accuracy >= 99%"),
    )
    ran = command("search", study, "--storage", tmp_path / "study.db")
    assert ran.code == 1 and ran.out == ""
    error = ran.err.splitlines()[-1]
    assert "no trial of study 'amc-digits' keeps 'accuracy >= 99%': the best has" in error
    assert "the original 99.00%" in error and "automl resume amc-digits --trials N" in error


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ((("budget: macs <= 12%\n", ""),), "budget is missing"),
        ((("agent: amc", "agent: amc\nguarantee: 90%"),), "expected a guarantee, `accuracy >= 90%`"),
        ((("agent: amc", "agent: amc\nobjective: error_log_flops"),), "expected one of accuracy, loss, divergence"),
    ],
)
def test_a_study_that_promises_nothing_clear_is_refused(study_file, tmp_path, changes, complaint):
    ran = command("search", study_file(*changes), "--storage", tmp_path / "study.db")
    assert ran.code == 1 and complaint in ran.err and ran.err.count("\n") == 1
