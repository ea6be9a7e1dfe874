"""Optuna's tables follow a study in the background, and never keep the driver waiting."""

from __future__ import annotations

import time

import optuna
import pytest

from automl.store import LiveProjection, OptunaProjection, open_store
from automl.store.optuna_projection import open_optuna_storage
from tests.kits.stores import add_trial, new_study, outcome, point


@pytest.fixture
def store(any_url):
    with open_store(any_url) as store:
        yield store


@pytest.fixture
def live(store):
    live = LiveProjection(OptunaProjection.of(store, new_study(store)))
    yield live
    live.close()


def shown(store) -> list[int]:
    """Numbers of the trials in Optuna's tables."""
    try:
        study = optuna.load_study(study_name="digits/random/0", storage=open_optuna_storage(store.url))
    except KeyError:
        return []
    return [trial.user_attrs["number"] for trial in study.get_trials(deepcopy=False)]


def finish(store, live, number: int) -> float:
    """Record a trial; the time that its observer took."""
    trial = add_trial(store, store.study("digits"), number=number, at=point(conv1=number % 16 + 1), result=outcome(0.5))
    started = time.perf_counter()
    live.record(trial)
    return time.perf_counter() - started


def test_while_the_driver_is_quiet_trials_are_copied(store, live):
    took = [finish(store, live, number) for number in range(3)]
    until = time.monotonic() + 30
    while len(shown(store)) < 3 and time.monotonic() < until:
        time.sleep(0.05)
    assert shown(store) == [0, 1, 2] and live.behind == 0
    assert sorted(took)[1] < 0.01, "a copy takes longer"
    assert live.sync() == 0


def test_a_driver_that_is_never_quiet_is_not_disturbed_and_all_is_there_in_the_end(store, live):
    started, n = time.monotonic(), 0
    while time.monotonic() - started < 1.5:
        finish(store, live, n)
        n += 1
        time.sleep(0.01)
    # While Optuna was loaded, after the first, there was time to copy one or two.
    assert live.behind >= n - 2
    assert live.sync() >= n - 2
    assert shown(store) == list(range(n))


def test_what_is_left_when_it_is_closed_is_brought_later(store, live):
    for number in range(5):
        finish(store, live, number)
    live.close()
    projection = OptunaProjection.of(store, store.study("digits"))
    copied = projection.sync(strict=True)
    assert copied >= 4 and sorted(shown(store)) == list(range(5))
    assert projection.sync(strict=True) == 0
    projection.close()
