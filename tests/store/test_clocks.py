"""Clocks of machines that share an SQLite file disagree: the living keep their studies, the dead do not."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from automl.store import StudyBusyError, leases, open_store
from tests.kits.drivers import driver
from tests.kits.stores import add_trial, new_study

OFFSETS_S = (-3600, -300, -5, 0, 5, 300, 3600)


def set_clock(monkeypatch, offset_s: float) -> None:
    """From now on the clock of this process's machine is wrong by so much."""
    monkeypatch.setattr(leases, "_clock", lambda connection: datetime.now(UTC) + timedelta(seconds=offset_s))


@pytest.fixture
def store(sqlite_url):
    with open_store(sqlite_url) as store:
        yield store


@pytest.mark.parametrize("machine", ["elsewhere", ""])
@pytest.mark.parametrize("offset_s", OFFSETS_S)
def test_a_living_driver_keeps_its_study_whatever_a_clock_says(store, sqlite_url, monkeypatch, offset_s, machine):
    study = new_study(store)
    with driver(sqlite_url, lease_s=2.0) as first:
        with store.database.write() as connection:
            connection.execute(sa.text("UPDATE lease SET machine = :machine"), {"machine": machine})
        set_clock(monkeypatch, offset_s)
        with pytest.raises(StudyBusyError, match=r"its claim ends in [12] s"), store.drive(study.id):
            pass
        with pytest.raises(StudyBusyError):
            add_trial(store, study)
        first.order(0)
        assert first.answer == 0


@pytest.mark.parametrize("offset_s", [o for o in OFFSETS_S if abs(o) > 1])
def test_a_dead_driver_elsewhere_is_succeeded_after_its_lease_whatever_a_clock_says(store, monkeypatch, offset_s):
    study = new_study(store)
    leases.acquire(store.database, study.id, 0.4)
    with store.database.write() as connection:
        connection.execute(sa.text("UPDATE lease SET machine = 'elsewhere', token = 'x'"))
    set_clock(monkeypatch, offset_s)
    started = time.monotonic()
    with store.drive(study.id):
        assert 0.4 <= time.monotonic() - started < 5
        add_trial(store, study)


def test_a_lease_that_is_given_back_while_it_is_watched_is_taken_at_once(store, sqlite_url, monkeypatch):
    study = new_study(store)
    token = leases.acquire(store.database, study.id, 60)
    with store.database.write() as connection:
        connection.execute(sa.text("UPDATE lease SET machine = 'elsewhere'"))
    set_clock(monkeypatch, 300)
    monkeypatch.setattr(time, "sleep", lambda seconds: leases.release(store.database, study.id, token))
    started = time.monotonic()
    with store.drive(study.id):
        assert time.monotonic() - started < 5
