"""Studies of each space take the course they took, and a database of before is read, gone on with, exported from."""

from __future__ import annotations

import json

import pytest

from automl.data import load as load_data
from automl.export import load
from automl.measures import count_macs
from automl.store import open_store
from automl.zoo import create
from tests.cli.conftest import automl as command
from tests.golden.cases import DATA, SPACES, golden
from tests.golden.ran import next_points, study_record, unpack_database
from tests.training.conftest import accuracy

IMAGES = 2 / 400
"""Two images of the validation data."""
REFITTED = 8 / 400
"""More of them may be seen differently by a network that was fitted anew."""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with open_store(tmp_path_factory.mktemp("golden") / "study.db") as opened:
        yield opened


@pytest.mark.parametrize("name", SPACES)
def test_a_study_takes_the_course_it_took(name, store):
    then, now = golden(f"study_{name}"), study_record(name, store)
    assert_same_trials([now["base"]], [then["base"]])
    assert_same_trials(now["lane uniform"], then["lane uniform"])
    assert_same_trials(now["lane random"], then["lane random"])
    assert_same_trials(now["lane evolution"], then["lane evolution"], learnt=True)
    if now["winner"] == then["winner"]:
        ours, theirs = dict(now["counted"]), dict(then["counted"])
        # What is compressed has another length where weights have other last digits.
        assert ours.pop("size_bytes") == pytest.approx(theirs.pop("size_bytes"), rel=0.01)
        assert ours == theirs


def assert_same_trials(now, then, learnt=False):
    """All of them, or, if Points are `learnt` from accuracies, those up to the first accuracy that differs at all."""
    for ours, theirs in zip(now, then, strict=True):
        assert {**ours, "accuracy": 0} == {**theirs, "accuracy": 0}
        assert ours["accuracy"] == pytest.approx(theirs["accuracy"], abs=IMAGES)
        if learnt and ours["accuracy"] != theirs["accuracy"]:
            break


@pytest.fixture(scope="module", params=SPACES)
def old(request, tmp_path_factory):
    """(name of a study in the old database, a copy of that)."""
    database = tmp_path_factory.mktemp("old") / "study.db"
    unpack_database(database)
    return request.param, database


def told(value):
    """A value as tables told it then: times to the millisecond, numbers to so many places."""
    if isinstance(value, float):
        return round(value, 10)
    if isinstance(value, str) and value[:2] == "20" and "T" in value:
        return value[: len("2026-01-01T00:00:00.000")]
    return value


def test_an_old_study_is_listed_with_its_trials(old):
    name, database = old
    listed = [line.split()[0] for line in command("studies", "--storage", database).out.splitlines()[2:]]
    assert sorted(listed) == sorted(SPACES)
    ran = command("trials", name, "--storage", database, "--format", "json")
    assert ran.code == 0, ran.err
    rows, then = json.loads(ran.out), golden("studies_v2")[f"trials of {name}"]
    assert [{key: told(row.get(key)) for key in was} for row, was in zip(rows, then, strict=True)] == [
        {key: told(value) for key, value in was.items()} for was in then
    ]


def test_the_winner_of_an_old_study_is_exported(old, tmp_path):
    name, database = old
    ran = command("export", name, "--storage", database, "--out", tmp_path, "--format", "safetensors")
    assert ran.code == 0, ran.err
    told = json.loads((tmp_path / "manifest.json").read_text())
    rows = golden("studies_v2")[f"trials of {name}"]
    winner = next(r for r in rows if (r["agent"], r["number"]) == (told["agent"], told["trial"]))
    for metric in ("accuracy", "macs", "params", "size_bytes"):
        assert told["measurements"][metric]["value"] == winner[f"final_{metric}"]
    network = load(tmp_path, create("small_cnn"))
    data = load_data(**DATA)
    assert count_macs(network, data.calibration[0][0]) == winner["final_macs"]
    assert (tmp_path / "model.safetensors").stat().st_size <= winner["final_size_bytes"]
    assert accuracy(network, data.validation) == pytest.approx(winner["final_accuracy"], abs=REFITTED)


def test_an_old_study_goes_on(old):
    name, database = old
    assert next_points(name, database) == golden("studies_v2")[f"next of {name}"]
