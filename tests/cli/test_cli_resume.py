"""A search that is killed or interrupted loses nothing, and goes on as if it had not been."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from automl.store import StoreError, TrialRecord, open_store
from tests.cli.conftest import DIGITS, automl, spawn
from tests.cli.conftest import TRIALS as SEARCHED

TRIALS = 16
CUT_AFTER = 2 + 6  # base and uniform are done; AMC has begun to learn, and has 10 trials to go


def trials(database: Path) -> list[TrialRecord]:
    with open_store(database, create=False) as store:
        return store.trials(store.study("amc-digits").id)


def course(database: Path) -> list[tuple]:
    """What was tried in each lane, in which order it was learnt, and what came of it."""
    return [
        (t.agent, t.seed, t.number, t.finish_order, t.point, t.state, t.values["accuracy"], t.values["loss"])
        for t in trials(database)
    ]


def finished(database: Path) -> dict[int, TrialRecord]:
    try:
        return {trial.id: trial for trial in trials(database) if trial.state.finished}
    except StoreError:  # the search has not come that far
        return {}


@pytest.fixture(scope="module")
def quick_study(tmp_path_factory) -> Path:
    """The digits study without random search, whose best trials are reported as they are: what is cut short is AMC's
    search."""
    path = tmp_path_factory.mktemp("quick") / "study.yaml"
    text = DIGITS.read_text().replace("small_cnn.safetensors", str(DIGITS.with_name("small_cnn.safetensors")))
    assert "baselines: [uniform, random]" in text
    text = text.replace("baselines: [uniform, random]", "baselines: [uniform]")
    path.write_text(text + "finish: {finalists: 1, reconstruction: as_searched}\n")
    return path


@pytest.fixture(scope="module")
def through(quick_study) -> Path:
    """The database of a study that ran through."""
    database = quick_study.with_name("study.db")
    assert automl("search", quick_study, "--storage", database, "--trials", TRIALS).code == 0
    return database


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_search_that_is_cut_short_ends_as_one_that_ran_through(quick_study, through, tmp_path, how):
    database = tmp_path / "study.db"
    # A time limit, not a wait: if the search never gets there, the test fails with what it said.
    process = spawn("search", quick_study, "--storage", database, "--trials", TRIALS, cwd=tmp_path)
    started = time.monotonic()
    while len(finished(database)) < CUT_AFTER and process.poll() is None and time.monotonic() - started < 120:
        time.sleep(0.02)
    process.send_signal(how)
    _, said = process.communicate(timeout=60)
    before = finished(database)
    assert CUT_AFTER <= len(before) < 2 + TRIALS, said
    if how is signal.SIGINT:
        assert process.returncode == 130
        assert f"resume with: automl resume amc-digits --storage {database}" in said
        assert "Traceback" not in said
    # The recorded configuration leaves a search with fewer trials than the file names as it was started.
    ran = automl("resume", "amc-digits", "--storage", database)
    assert ran.code == 0, ran.err
    after = {trial.id: trial for trial in trials(database)}
    for trial in before.values():
        assert after[trial.id].finished == trial.finished and after[trial.id].point == trial.point
    assert course(database) == course(through)


OWN = """\
import torch
from torch import nn

def network(width):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(36 * width, 10),
    )

def batches(n):
    torch.manual_seed(1)
    def some(k):
        return [(torch.randn(20, 1, 8, 8), torch.randint(10, (20,))) for _ in range(k)]
    return {"train": some(n), "validation": some(n), "test": some(1)}
"""
STUDY = """\
name: own
model: {name: "own_parts:network", options: {width: 8}}
data: {name: "own_parts:batches", options: {n: 3}, validation_size: 40}
budget: params <= 50%
agent: random
baselines: [uniform]
objective: loss
trials: 2
seeds: [0, 1]
runner: {threads: 1}
"""


def test_a_study_goes_on_that_was_begun_before_a_key_of_the_study_file_existed(searched, tmp_path):
    database = tmp_path / "study.db"
    shutil.copy(searched[0], database)
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        ((text,),) = connection.execute("SELECT config FROM study")
        config = json.loads(text)
        del config["guarantee"], config["finish"]["training"]
        config["space"] = {"name": "channels", "min_keep": 0.1, "round_to": 1, "steps": None, "exclude": []}
        connection.execute("UPDATE study SET config = ?", (json.dumps(config),))
    before = finished(database)
    assert automl("resume", "amc-digits", "--storage", database, "--trials", SEARCHED + 1).code == 0
    assert len(finished(database)) > len(before)
    config["space"]["round_to"] = 4
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE study SET config = ?", (json.dumps(config),))
    refused = automl("search", DIGITS, "--storage", database)
    assert refused.code != 0
    assert "space.channels.round_to (recorded 4, now 1)" in refused.err
    assert "skips" not in refused.err


@pytest.fixture
def own_study(tmp_path) -> Path:
    """A study of a user's own network and data."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "own_parts.py").write_text(OWN)
    (folder / "own.yaml").write_text(STUDY)
    return folder / "own.yaml"


@pytest.mark.slow
def test_own_code_is_swept_from_a_folder_with_foreign_packages_and_resumed_without_its_file(own_study, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    for name in ("agents", "search_spaces"):
        (elsewhere / name).mkdir(parents=True)
        (elsewhere / name / "__init__.py").write_text("raise SystemExit('the foreign package was executed')")
    process = spawn("search", own_study, "--storage", "sqlite:///own.db", "--workers", "2", cwd=elsewhere)
    out, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert "±" in out and "val loss" in out
    with open_store(elsewhere / "own.db", create=False) as store:
        before = store.trials(store.study("own").id)
    assert len(before) == 1 + 2 * (1 + 2)
    assert {trial.state.value for trial in before} == {"done"}
    own_study.unlink()
    more = ("--trials", "3", "--workers", "1")
    process = spawn("resume", "own", "--storage", "sqlite:///own.db", *more, cwd=elsewhere)
    out, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    with open_store(elsewhere / "own.db", create=False) as store:
        after = store.trials(store.study("own").id)
    assert len(after) == len(before) + 2
    assert {trial.id for trial in before} < {trial.id for trial in after}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("objective: loss", "objective: accuracy"), None),
        (('own_parts:batches"', 'own_parts:bathes"'), "has no function 'bathes'"),
        (("{n: 3}", "{m: 3}"), "raised TypeError"),
        (("{n: 3}", "{n: 0}"), "at least one batch"),
        (('own_parts:batches"', 'own_parts:network"'), "must return a mapping"),
        (("width: 8", "width: 0"), "network"),
    ],
)
def test_own_code_that_does_not_fit_is_one_clear_error(own_study, tmp_path, change, complaint):
    text = own_study.read_text()
    assert change[0] in text
    if "network" in change[1]:
        change = (change[0] + ", options: {n: 3}", change[1] + ", options: {width: 8}")
    own_study.write_text(text.replace(*change))
    ran = automl("search", own_study, "--storage", tmp_path / "own.db", "--trials", "1", "--seed", "0")
    if complaint is None:
        assert ran.code == 0, ran.err
    else:
        assert ran.code == 1 and complaint in ran.err and ran.err.count("\n") == 1, ran.err


@pytest.mark.slow
def test_the_dashboard_is_served_until_ctrl_c(searched, tmp_path):
    from urllib.request import urlopen

    process = spawn("dashboard", "--storage", searched[0], "--port", "0", cwd=tmp_path)
    try:
        line = process.stdout.readline()
        assert line.startswith("dashboard at http://127.0.0.1:")
        with urlopen(line.split()[2] + "api/studies", timeout=30) as answer:
            assert b"amc-digits/amc/0" in answer.read()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.communicate()
