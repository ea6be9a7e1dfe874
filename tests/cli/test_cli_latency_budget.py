"""A budget on latency through the command line: one table a study, and a winner that has been timed."""

from __future__ import annotations

import re
import shutil

import pytest

from automl.store import open_store
from automl.study import conclude
from automl.study.certificates import certificate_of
from automl.types import Measurement, Phase
from tests.cli.conftest import Ran
from tests.cli.conftest import automl as command
from tests.kits.rough_times import rough_times

NETWORK = """\
import torch
from torch import nn

def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 4),
    )

def batches():
    torch.manual_seed(1)
    def some():
        return [(torch.randn(16, 3, 16, 16), torch.randint(4, (16,)))]
    return {"train": some(), "validation": some(), "test": some()}
"""
STUDY = """\
name: quick
model: "latency_parts:network"
data: "latency_parts:batches"
space: {round_to: 32}
budget: latency <= 10 s
latency: {batch: 8, widths: 2, processes: 1}
objective: loss
agent: random
baselines: [uniform]
trials: 3
runner: {threads: 1}
"""


@pytest.fixture(scope="module")
def study_file(tmp_path_factory):
    """Two groups of 64 channels, of which 32 or all stay: so few networks that each is well clear of a limit."""
    folder = tmp_path_factory.mktemp("latency")
    (folder / "latency_parts.py").write_text(NETWORK)
    (folder / "study.yaml").write_text(STUDY)
    return folder / "study.yaml"


def changed(study_file, *changes: tuple[str, str]):
    text = study_file.read_text()
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    path = study_file.with_name("changed.yaml")
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def searched(study_file, tmp_path_factory) -> tuple[str, Ran]:
    """A finished study with a limit in ms that no network exceeds."""
    database = str(tmp_path_factory.mktemp("searched") / "study.db")
    with rough_times():
        return database, command("search", study_file, "--storage", database)


@pytest.fixture
def copied(searched, tmp_path) -> str:
    return str(shutil.copy(searched[0], tmp_path / "copy.db"))


def recorded(database: str):
    with open_store(database, create=False) as store:
        study = store.study("quick")
        return study, store.trials(study.id)


def test_the_winner_is_timed_and_the_table_is_on_record(searched):
    database, ran = searched
    assert ran.code == 0, ran.err
    assert "measuring the latency of 2 groups at 2 widths" in ran.err
    told = re.search(
        r"timed on eager beside the original \(batch 8, threads 1\): \S+ ms, at most \S+ ms of 1e\+04 ms", ran.out
    )
    assert told, ran.out
    study, trials = recorded(database)
    table = study.config["latency_table"]
    assert [curve["levels"] for curve in table["curves"]] == [[32, 64], [32, 64]]
    assert study.config["limits"] == {"predicted_latency_ms": 10_000.0}
    assert all(0 < trial.values["predicted_latency_ms"] <= table["original_ms"] for trial in trials)
    timed = [trial for trial in trials if "latency_ms" in trial.values_of(Phase.CERTIFICATE)]
    assert len(timed) == 1 and timed[0].values_of(Phase.CERTIFICATE)["latency_ms"] < 10_000


def test_a_study_that_goes_on_keeps_its_table_and_its_certificate(copied, study_file):
    before = recorded(copied)
    for arguments in (("resume", "quick"), ("search", study_file)):
        again = command(*arguments, "--storage", copied)
        assert again.code == 0, again.err
        assert "measuring the latency of" not in again.err and "timing trial" not in again.err
        assert recorded(copied) == before
    more = command("resume", "quick", "--storage", copied, "--trials", "5")
    assert more.code == 0 and "measuring the latency of" not in more.err
    assert recorded(copied)[0] == before[0]


def test_what_is_exported_has_been_timed(copied, tmp_path):
    arguments = ("export", "quick", "--storage", copied, "--out", tmp_path / "winner", "--format", "safetensors")
    ran = command(*arguments)
    assert ran.code == 0 and "within latency <= 10 s" in ran.out
    winner = next(trial for trial in recorded(copied)[1] if "latency_ms" in trial.values_of(Phase.CERTIFICATE))
    refuse(copied, winner)
    ran = command(*arguments, "--trial", f"{winner.agent}/{winner.seed}/{winner.number}")
    assert ran.code == 1 and "timed at 1.2e+04 ms, 1e+04 ms are allowed" in ran.err


def refuse(database: str, trial) -> None:
    """Put on record that the trial's network took 12 s."""
    with open_store(database, create=False) as store:
        store.add_measurements(trial.id, [Measurement("latency_ms_high", 12_000.0, "ms", phase=Phase.CERTIFICATE)])


def test_without_a_network_that_is_quick_enough_there_is_no_winner(copied):
    winner = next(trial for trial in recorded(copied)[1] if "latency_ms" in trial.values_of(Phase.CERTIFICATE))
    refuse(copied, winner)
    ran = command("resume", "quick", "--storage", copied)
    # A limit that does not bind leaves the network whole: every trial of the study is the one that was refused.
    assert ran.code == 1 and ran.out == ""
    assert "the 1 best networks were timed, and none keeps 'latency <= 10 s': the fastest takes 1.2e+04 ms" in ran.err
    assert "ask for `latency <= 8.25e+03 ms` under another name" in ran.err


def test_a_relative_limit_is_kept_by_prediction_and_by_measurement(study_file, tmp_path):
    # With half of the inputs or of the outputs of its widest layer the network was measured, five times on a busy
    # machine, at 0.57 to 0.65 of its time, with both at 0.35 to 0.40: far enough from 0.9 for any machine.
    database = str(tmp_path / "study.db")
    ran = command("search", changed(study_file, ("latency <= 10 s", "latency <= 90%")), "--storage", database)
    assert ran.code == 0, ran.err
    assert re.search(r"threads 1\): \d\d\.\d%, at most \d\d\.\d% of 90\.0% allowed, \d\d\.\d% predicted", ran.out), (
        ran.out
    )
    study, trials = recorded(database)
    limit = study.config["limits"]["predicted_latency_ms"]
    assert limit == pytest.approx(0.9 * study.config["latency_table"]["original_ms"])
    for trial in trials:
        assert (trial.values["predicted_latency_ms"] <= limit) == (trial.agent != "base")
    ratios = [trial.values_of(Phase.CERTIFICATE).get("latency_ratio") for trial in trials]
    assert any(ratio is not None and ratio <= 0.9 for ratio in ratios)


def test_where_the_best_is_refused_the_next_best_is_finished_timed_and_wins(study_file, tmp_path):
    database = str(tmp_path / "study.db")
    # The MACs leave two networks to choose from, with either group whole; 10 s is no limit to either.
    budget = ("latency <= 10 s", "[macs <= 80%, latency <= 10 s]")
    one = ("baselines: [uniform]", "baselines: []\nfinish: {finalists: 1}")
    study = changed(study_file, budget, one, ("trials: 3", "trials: 8"))
    with rough_times():
        assert command("search", study, "--storage", database).code == 0
    trials = [trial for trial in recorded(database)[1] if trial.agent != "base"]
    assert len({trial.point for trial in trials}) == 2
    assert len({trial.point for trial in trials if trial.values_of(Phase.FINAL)}) == 1
    winner = next(trial for trial in trials if "latency_ms" in trial.values_of(Phase.CERTIFICATE))
    refuse(database, winner)
    ran = command("resume", "quick", "--storage", database)
    assert ran.code == 0, ran.err
    timed = {trial.point for trial in recorded(database)[1] if "latency_ms" in trial.values_of(Phase.CERTIFICATE)}
    assert timed == {trial.point for trial in trials}
    second = next(trial for trial in trials if trial.point != winner.point)
    assert f"macs {second.values['macs']:,.0f} of" in ran.out


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("latency <= 10 s", "latency <= 1 us"), "is predicted to take at most 0.001 ms on eager"),
        (("latency <= 10 s", "latency <= 10"), "expected the unit of latency to be %, us, ms or s"),
        (("latency <= 10 s", "macs <= 50%"), "the section `latency` says how a budget on latency is measured"),
        (("latency <= 10 s", "latency <= 10 s on onnxrt"), "no backend 'onnxrt'; did you mean"),
        (("widths: 2", "widths: 1"), "line 6: latency: widths must be at least 2, got 1"),
    ],
)
def test_a_study_that_cannot_be_run(study_file, tmp_path, change, complaint):
    with rough_times():
        ran = command("search", changed(study_file, change), "--storage", tmp_path / "study.db")
    assert ran.code == 1
    assert complaint in ran.err


def test_another_budget_is_refused_before_anything_is_measured(copied, study_file):
    other = changed(study_file, ("batch: 8", "batch: 4"))
    ran = command("search", other, "--storage", copied)
    assert ran.code == 1 and "latency.batch (recorded 8, now 4)" in ran.err
    assert "measuring" not in ran.err


def test_inspect_measures_a_table_and_shows_what_can_be_reached(study_file):
    with rough_times():
        ran = command("inspect", study_file)
    assert ran.code == 0
    assert re.search(r"predicted_latency_ms +[\d.]+ \(\d+\.\d%\) +[\d.]+ +10,000", ran.out), ran.out


def test_what_takes_too_long_is_refused_before_it_is_trained(study_file, tmp_path, monkeypatch):
    """The first of two networks is slow where it is timed: the other alone is trained, and wins."""
    timed = []

    def slow_at_first(study, record, network, manifest):
        certificate = certificate_of(study, record, network, manifest)
        timed.append(record.point)
        if len(timed) == 1:
            certificate["latency_ms"]["network"]["high"], certificate["within"] = 12_000.0, False
        return certificate

    monkeypatch.setattr(conclude, "certificate_of", slow_at_first)
    database = str(tmp_path / "study.db")
    budget = ("latency <= 10 s", "[macs <= 80%, latency <= 10 s]")
    one = ("baselines: [uniform]", "baselines: []\nfinish: {finalists: 1, training: {epochs: 1}}")
    with rough_times():
        ran = command("search", changed(study_file, budget, one, ("trials: 3", "trials: 8")), "--storage", database)
    assert ran.code == 0, ran.err
    slow, *others = timed
    assert len(others) == 2 and others[0] == others[1] != slow, "before it was trained, and as it is reported"
    finished = {
        trial.point for trial in recorded(database)[1] if trial.values_of(Phase.FINAL) and trial.agent != "base"
    }
    assert finished == {others[0]}
