"""`automl show` and `compare` on records of every sort: unfinished, failed, from elsewhere."""

from __future__ import annotations

import pytest

from automl.store import open_store
from automl.types import Outcome
from tests.cli.conftest import automl
from tests.kits.stores import add_trial, new_study


@pytest.fixture
def database(tmp_path):
    """A study without a goal, one without trials, one that failed, one that was not finished."""
    path = tmp_path / "study.db"
    with open_store(path) as store:
        new_study(store, "bare", {})
        new_study(store, "empty")
        add_trial(store, new_study(store, "failed"), result=Outcome.failed("out of memory"))
        add_trial(store, new_study(store, "some"))
    return path


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["show", "bare"], "has no 'goal' in its recorded configuration"),
        (["show", "empty"], "has no trial that is done yet: `automl resume empty`"),
        (["show", "failed"], "has no trial that is done yet"),
        (["compare", "some", "bare"], "has no 'goal'"),
        (["show", "some", "winner"], "has reported no winner yet"),
        (["show", "some", "random/0"], "expected AGENT/SEED/NUMBER"),
        (["show", "som"], "did you mean 'some'"),
    ],
)
def test_what_cannot_be_shown_is_said_in_one_line(database, words, complaint):
    ran = automl(*words, "--storage", database)
    assert ran.code == 1 and complaint in ran.err and len(ran.err.splitlines()) == 1


def test_what_is_there_is_shown(database):
    some = automl("show", "some", "--storage", database)
    assert some.code == 0 and "50.00 ±1.00 %" in some.out and "no winner yet" in some.out
    failed = automl("show", "failed", "random/0/0", "--storage", database)
    assert failed.code == 0 and "out of memory" in failed.out and "block.conv1" in failed.out
    assert "macs" not in automl("trials", "empty", "--storage", database).out
