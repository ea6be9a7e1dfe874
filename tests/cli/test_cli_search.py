"""The main job through the command line, on scikit-learn's digits."""

from __future__ import annotations

import json
import re
import shutil

import pandas as pd
import pytest

import automl.export
from automl.store import conclude_study, conclusion, open_store
from automl.types import Measurement, Phase
from automl.zoo import load_model
from tests.cli.conftest import DIGITS, TRIALS
from tests.cli.conftest import automl as command


def rows(out: str) -> dict[str, str]:
    """The lines of a results table by their first word."""
    return {line.split()[0]: line for line in out.splitlines() if line}


def test_a_search_ends_with_a_table_and_a_winner_within_the_budget(searched):
    ran = searched[1]
    assert ran.code == 0
    table = rows(ran.out)
    assert {"base", "uniform", "random", "amc"} <= table.keys()
    assert "100.0%" in table["base"] and "1.00x" in table["base"]
    macs = re.search(r"macs ([\d,]+) of ([\d,]+) allowed", ran.out)
    used, allowed = (int(text.replace(",", "")) for text in macs.groups())
    assert allowed == 1_175_520 * 12 // 100
    assert 0.97 * allowed < used <= allowed
    assert f"{2 * TRIALS + 2} of {2 * TRIALS + 2} trials" in ran.err


def test_every_trial_is_recorded_and_only_the_best_of_a_lane_saw_the_test_data(searched):
    with open_store(searched[0], create=False) as store:
        trials = store.trials(store.study("amc-digits").id)
    counts = {agent: sum(trial.agent == agent for trial in trials) for agent in ("base", "uniform", "random", "amc")}
    assert counts == {"base": 1, "uniform": 1, "random": TRIALS, "amc": TRIALS}
    others = [trial for trial in trials if trial.agent != "base" and trial.state == "done"]
    fourth = sorted({trial.point: trial.values["accuracy"] for trial in others}.values())[-4]
    for agent in counts:
        lane = [trial for trial in trials if trial.agent == agent]
        finished = [trial for trial in lane if "accuracy" in trial.values_of(Phase.FINAL)]
        best = max(trial.values_of(Phase.FINAL)["accuracy"] for trial in finished)
        tested = [trial for trial in lane if "accuracy" in trial.values_of(Phase.TEST)]
        assert [trial.values_of(Phase.FINAL)["accuracy"] for trial in tested] == [best]
        accuracies = [trial.values["accuracy"] for trial in finished]
        assert max(accuracies) == max(trial.values["accuracy"] for trial in lane if trial.state == "done")
        assert sum(accuracy < fourth for accuracy in accuracies) <= 1, "of the best four of all, or the lane's best"
        assert set(tested[0].values_of(Phase.LATENCY)) == {"latency_ms", "latency_ratio", "peak_activation_bytes"}
        assert set(tested[0].values_of(Phase.TEST)) == {"accuracy", "loss"}
    assert all(trial.values["macs"] <= 141_062 for trial in trials if trial.agent != "base")


def test_the_pictures_lie_beside_the_database_and_are_on_record(searched):
    database, ran = searched
    pictures = [database.with_name(f"amc-digits-{kind}.png") for kind in ("kept", "curves")]
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)
    assert all(str(picture) in ran.out for picture in pictures)
    with open_store(database, create=False) as store:
        artifacts = store.artifacts(store.study("amc-digits").id)
    assert [(artifact.kind, artifact.path) for artifact in artifacts] == [("picture", str(p)) for p in pictures]


def test_the_winner_is_on_record_and_is_the_one_that_is_exported(searched, copied, tmp_path):
    with open_store(copied, create=False) as store:
        study = store.study("amc-digits")
        concluded = conclusion(store, study.id)
        winner = store.trial(concluded.trial_id)
        (rule,) = concluded.rules
        assert f"* the winner: trial {winner.number} of {winner.agent}, seed 0" in searched[1].out
        assert (rule.text, rule.metric, rule.phase, rule.sense) == ("macs <= 12%", "macs", Phase.FINAL, "at most")
        assert rule.value == winner.values_of(Phase.FINAL)["macs"] <= rule.bound == study.config["limits"]["macs"]
        finished = [t for t in store.trials(study.id) if t.agent != "base" and t.values_of(Phase.FINAL)]
        other = next(trial for trial in finished if trial != winner)
        conclude_study(store, other.id, ())
    ran = command("export", "amc-digits", "--storage", copied, "--out", tmp_path / "w", "--format", "safetensors")
    assert f"trial {other.number} of {other.agent}" in ran.out, "what is on record is not chosen anew"


def test_optuna_sees_every_finished_trial(searched):
    import optuna

    storage = f"sqlite:///{searched[0]}"
    counts = {s.study_name: s.n_trials for s in optuna.get_all_study_summaries(storage)}
    with open_store(searched[0], create=False) as store:
        trials = store.trials(store.study("amc-digits").id)
    finished = [trial for trial in trials if trial.agent != "base" and trial.values_of(Phase.FINAL)]
    assert {name: n for name, n in counts.items() if ": " not in name} == {  # else a front, made for the dashboard
        "amc-digits": len(finished),
        "amc-digits/base/0": 1,
        "amc-digits/uniform/0": 1,
        "amc-digits/random/0": TRIALS,
        "amc-digits/amc/0": TRIALS,
    }


@pytest.fixture
def copied(searched, tmp_path):
    """A copy of the finished study, to be changed."""
    return shutil.copy(searched[0], tmp_path / "copy.db")


def test_a_finished_study_is_shown_again_and_nothing_is_measured_again(searched, copied):
    def record():
        with open_store(copied, create=False) as store:
            return store.trials(store.study("amc-digits").id)

    before = record()
    again = command("resume", "amc-digits", "--storage", copied)
    assert again.code == 0
    assert record() == before
    first, second = (
        [line for line in ran.out.splitlines() if "%" in line or "note" in line] for ran in (searched[1], again)
    )
    assert second == first


def test_more_trials_can_be_asked_for(copied):
    assert command("resume", "amc-digits", "--storage", copied, "--trials", TRIALS + 2).code == 0
    with open_store(copied, create=False) as store:
        study = store.study("amc-digits")
        assert [trial.number for trial in store.trials(study.id, agent="amc")] == list(range(TRIALS + 2))


def test_another_configuration_under_the_same_name_is_refused(copied, study_file):
    other = study_file(("macs <= 12%", "macs <= 40%"), ("split_seed: 0", "split_seed: 1"))
    ran = command("search", other, "--storage", copied)
    assert ran.code == 1
    assert "data.split_seed (recorded 0, now 1); budget (recorded ['macs <= 12%'], now ['macs <= 40%'])" in ran.err
    ran = command("search", study_file(), "--storage", copied, "--seed", "4")
    assert ran.code == 1 and "seeds (recorded [0], now [4])" in ran.err


def test_other_weights_under_the_same_name_are_refused(copied, study_file):
    ran = command("search", study_file(("  weights: ", "  # ")), "--storage", copied)
    assert ran.code == 1 and "network (recorded '" in ran.err


def test_trials_are_written_in_every_format(searched, tmp_path):
    total = 2 * TRIALS + 2
    out = {}
    for name in ("table", "csv", "json"):
        ran = command("trials", "amc-digits", "--storage", searched[0], "--format", name)
        assert ran.code == 0
        out[name] = ran.out
    assert len(out["table"].splitlines()) == total + 2
    assert len(out["csv"].splitlines()) == total + 1
    assert len(json.loads(out["json"])) == total
    ran = command(
        "trials", "amc-digits", "--storage", searched[0], "--format", "parquet", "--out", tmp_path / "t.parquet"
    )
    assert ran.code == 0
    table = pd.read_parquet(tmp_path / "t.parquet")
    assert len(table) == total and {"accuracy", "macs", "keep:stem.0"} <= set(table.columns)


def test_what_a_search_found_is_shown_again_at_once(searched):
    again = command("show", "amc-digits", "--storage", searched[0])
    assert again.code == 0 and searched[1].out.startswith(again.out)
    trial = command("show", "amc-digits", "winner", "--storage", searched[0])
    assert "the winner, reported" in trial.out and "macs <= 12%: " in trial.out and "conv1.0" in trial.out
    beside = command("compare", "amc-digits", "amc-digits", "--storage", searched[0])
    assert beside.code == 0 and len(beside.out.splitlines()) == 4 and "macs <= 12%" in beside.out
    ran = command("show", "amc-digits", "amc/0/99", "--storage", searched[0])
    assert ran.code == 1 and "expected AGENT/SEED/NUMBER" in ran.err


def test_trials_are_chosen_and_sorted(searched):
    ran = command(
        "trials",
        "amc-digits",
        "--storage",
        searched[0],
        "--where",
        "macs <= 12% and agent = amc",
        "--sort",
        "-accuracy",
        "--columns",
        "number,accuracy",
        "--format",
        "csv",
    )
    accuracies = [float(line.split(",")[1]) for line in ran.out.splitlines()[1:]]
    assert len(accuracies) == TRIALS and accuracies == sorted(accuracies, reverse=True)


def test_a_trial_that_is_run_again_comes_to_the_same(searched):
    with open_store(searched[0], create=False) as store:
        before = store.trials(store.study("amc-digits").id)
    stopped = next(trial for trial in before if trial.state == "stopped")
    named = f"{stopped.agent}/0/{stopped.number}"
    for trial, ended in (("winner", "it ended done"), (named, f"trial {named}: it ended stopped")):
        ran = command("rerun", "amc-digits", trial, "--storage", searched[0])
        assert ran.code == 0 and ended in ran.out and "different" not in ran.out, ran.out + ran.err
    with open_store(searched[0], create=False) as store:
        assert store.trials(store.study("amc-digits").id) == before


def test_a_record_that_does_not_fit_is_told(copied):
    with open_store(copied, create=False) as store:
        study = store.study("amc-digits")
        trial = store.trials(study.id, agent="uniform")[0]
        store.add_measurements(trial.id, [Measurement("accuracy", 0.123, step=1)])
    ran = command("rerun", "amc-digits", "uniform/0/0", "--storage", copied)
    assert ran.code == 1 and "0.123" in ran.out and ran.out.rstrip().endswith("different")


def test_studies_are_listed(searched):
    ran = command("studies", "--storage", searched[0])
    assert ran.code == 0
    assert rows(ran.out)["amc-digits"].split()[1:3] == ["small_cnn", "digits"]


def test_inspect_tells_what_can_change_what_cannot_and_how_long(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = command("inspect", DIGITS, "--trials", "10")
    assert ran.code == 0
    assert "4 groups" in ran.out and "is an output of the network" in ran.out
    assert re.search(r"macs +[\d,]+ \(1\.5%\) +1,175,520 +141,062", ran.out)
    assert re.search(r"\nsearch +21 trials with 1 workers +\d.*\nfinishing +up to 6 networks +\d", ran.out)
    assert re.search(r"\nabout .* on \d threads, the agents' own time apart; up to \d\.\d GB in this process", ran.out)
    assert list(tmp_path.iterdir()) == []


def test_the_winner_is_exported_as_the_network_of_its_trial(copied, tmp_path):
    ran = command("export", "amc-digits", "--storage", copied, "--out", tmp_path / "winner", "--format", "safetensors")
    assert ran.code == 0
    manifest = json.loads((tmp_path / "winner" / "manifest.json").read_text())
    assert manifest["study"] == "amc-digits"
    assert manifest["measurements"]["macs"]["value"] <= manifest["limits"]["macs"] == pytest.approx(0.12 * 1_175_520)
    original = load_model("small_cnn", {}, None)
    network = automl.export.load(tmp_path / "winner", original)
    assert sum(p.numel() for p in network.parameters()) == manifest["measurements"]["params"]["value"]
    with open_store(copied, create=False) as store:
        kinds = [artifact.kind for artifact in store.artifacts(store.study("amc-digits").id)]
    assert kinds == ["picture", "picture", "safetensors", "manifest"]


def test_any_done_trial_can_be_exported(copied, tmp_path):
    arguments = ("export", "amc-digits", "--storage", copied, "--out", tmp_path / "w", "--format", "safetensors")
    ran = command(*arguments, "--trial", "uniform/0/0")
    assert ran.code == 0 and "trial 0 of uniform" in ran.out
    ran = command(*arguments, "--trial", "uniform/0/9")
    assert ran.code == 1 and "expected AGENT/SEED/NUMBER" in ran.err
