"""What any database must do for those who drive studies: subclass `DrivingConformance` and give it a fixture `url`."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time

import pytest
import sqlalchemy as sa

from agents import TrialState
from automl.store import LeaseLostError, Store, StoreError, StudyBusyError, open_store
from automl.store.errors import ConnectionLostError
from automl.types import Measurement, Outcome, Phase
from tests.kits.stores import PROCESSES, add_trial, new_study, outcome, point


def _drive(url: str, lease_s: float, orders, answers) -> None:
    """Hold the lease of study "digits"; open a trial a word; end when there is no more."""
    with open_store(url) as store:
        study = store.study("digits")
        try:
            with store.drive(study.id, lease_s=lease_s):
                answers.send("driving")
                with contextlib.suppress(EOFError):
                    for number in iter(orders.recv, None):
                        trial = store.open_trial(study.id, "amc", 0, number, point())
                        store.close_trial(trial.id, outcome())
                        answers.send(number)
        except StoreError as error:
            answers.send(f"{type(error).__name__}: {error}")


class Driver:
    """A process that drives study "digits"."""

    def __init__(self, url: str, lease_s: float = 60.0) -> None:
        orders, self._orders = PROCESSES.Pipe(duplex=False)
        self._answers, answers = PROCESSES.Pipe(duplex=False)
        self.process = PROCESSES.Process(target=_drive, args=(url, lease_s, orders, answers))
        self.process.start()
        orders.close()
        answers.close()

    @property
    def answer(self):
        assert self._answers.poll(30)
        return self._answers.recv()

    def order(self, number: int | None) -> None:
        self._orders.send(number)

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def suspend(self, store: Store) -> None:
        """Stop it between two renewals of its lease: in the middle of one it would hold the lock of an SQLite file."""
        expiry = sa.text("SELECT expires FROM lease")
        before = store.database.reading(lambda connection: connection.scalar(expiry))
        until = time.monotonic() + 30
        while store.database.reading(lambda connection: connection.scalar(expiry)) == before:
            assert time.monotonic() < until, "it does not renew its lease"
            time.sleep(0.001)
        self.signal(signal.SIGSTOP)

    def end(self) -> None:
        self.process.kill()
        self.process.join()


@contextlib.contextmanager
def driver(url: str, lease_s: float = 60.0):
    started = Driver(url, lease_s)
    try:
        answer = started.answer
        assert answer == "driving", answer
        yield started
    finally:
        started.end()


def lose_answer(store: Store, monkeypatch, times: int = 1) -> list[None]:
    """From now on, `times` commits reach the database although their answer is lost; filled as it happens."""
    real, lost = store.database.write, []

    @contextlib.contextmanager
    def write():
        with real() as connection:
            yield connection
        if len(lost) < times:
            lost.append(None)
            raise ConnectionLostError("the line is cut")

    monkeypatch.setattr(store.database, "write", write)
    return lost


class DrivingConformance:
    """The subclass defines a fixture `url`: the URL of a database of its own, empty, for each test."""

    @pytest.fixture
    def store(self, url):
        with open_store(url, patience_s=5) as store:
            yield store

    @pytest.fixture
    def study(self, store):
        return new_study(store)

    # -- leases ----------------------------------------------------------------------------------------------------

    def test_a_second_driver_is_refused_in_one_sentence(self, store, study, url):
        with driver(url) as first:
            with pytest.raises(StudyBusyError) as caught, store.drive(study.id):
                pass
            said = str(caught.value)
            assert re.search(rf"'digits' in .* is being run by process {first.process.pid} on \S+, since 20", said)
            assert "automl resume digits" in said and re.search(r"its claim ends in (5\d|60) s$", said)
            first.order(0)
            assert first.answer == 0, "the first goes on"
            first.order(None)
            first.process.join(30)
        with store.drive(study.id), store.drive(study.id):  # given back; within itself it changes nothing
            assert add_trial(store, study, "amc", 0, 1).finish_order == 2
        with driver(url):
            pass

    def test_studies_are_driven_side_by_side(self, store, study, url):
        other = new_study(store, "other")
        with driver(url) as first, store.drive(other.id):
            first.order(0)
            assert first.answer == 0
            add_trial(store, other)

    def test_a_driver_that_was_killed_is_succeeded_at_once(self, store, study, url):
        with driver(url, lease_s=3600) as first:
            first.signal(signal.SIGKILL)
            time.sleep(0.2)  # it is not waited for, and leaves its number in the table of processes
            started = time.monotonic()
            with store.drive(study.id):
                assert time.monotonic() - started < 5
                add_trial(store, study)

    def test_a_driver_elsewhere_is_succeeded_when_its_lease_expires(self, store, study, url):
        with driver(url, lease_s=1.0) as first:
            with store.database.write() as connection:  # as if it ran on another machine
                connection.execute(sa.text("UPDATE lease SET machine = 'elsewhere', host = 'node7'"))
            first.signal(signal.SIGKILL)
            first.process.join()
            with pytest.raises(StudyBusyError, match=r"on node7, .* its claim ends in 1 s"), store.drive(study.id):
                pass
            time.sleep(1.1)
            with store.drive(study.id):
                add_trial(store, study)

    def test_another_process_with_the_number_of_a_dead_one_does_not_keep_its_lease(self, store, study):
        with store.drive(study.id):
            with store.database.write() as connection:  # this process's number, given to it later
                connection.execute(sa.text("UPDATE lease SET born = '1', token = 'x'"))
            with open_store(store.url) as other, other.drive(study.id):
                add_trial(other, study)
            with pytest.raises(LeaseLostError, match="taken over by another process"):
                add_trial(store, study, number=1)

    def test_a_driver_suspended_for_too_long_records_nothing_any_more(self, store, study, url):
        with driver(url, lease_s=0.5) as first:
            first.order(0)
            assert first.answer == 0
            time.sleep(1)
            first.order(1)
            assert first.answer == 1, "it renews its lease"
            first.suspend(store)
            time.sleep(0.7)
            with store.drive(study.id):
                mine = add_trial(store, study, "amc", 0, 2)
                first.signal(signal.SIGCONT)
                first.order(3)
                said = first.answer
                assert said.startswith("LeaseLostError: study 'digits' in ")
                assert f"taken over by process {os.getpid()} on" in said and "automl resume digits" in said
                assert [trial.number for trial in store.trials(study.id)] == [0, 1, 2]
                assert mine.finish_order == 3
                first.process.join(30)
                assert add_trial(store, study, "amc", 0, 3).finish_order == 4, "its end takes no lease but its own"

    def test_who_does_not_drive_reads_and_adds_and_runs_nothing(self, store, study, url):
        left = store.open_trial(study.id, "random", 0, 0, point())
        done = add_trial(store, study, "uniform")
        with driver(url):
            for write in (
                lambda: store.open_trial(study.id, "random", 0, 1, point()),
                lambda: store.close_trial(left.id, outcome()),
                lambda: store.reopen_trial(left.id),
                lambda: store.fail_attempt(left.id, "lost", max_attempts=3),
            ):
                with pytest.raises(StudyBusyError):
                    write()
            store.add_measurements(done.id, [Measurement("accuracy", 0.5, phase=Phase.TEST)])
            store.add_artifact(study.id, done.id, "onnx", "model.onnx", "a" * 64)
            assert store.trial(done.id).values_of(Phase.TEST)["accuracy"] == 0.5
            assert store.running(study.id) == [left]
        assert store.close_trial(left.id, outcome()).finish_order == 1, "it is known to be dead"

    # -- attempts --------------------------------------------------------------------------------------------------

    def test_attempts_that_ended_with_their_driver_are_counted_and_not_held_against_the_trial(self, store, study):
        trial = store.open_trial(study.id, "amc", 0, 0, point())
        for attempts in (2, 3, 4, 5):
            assert store.reopen_trial(trial.id).attempts == attempts
        ended = store.attempts(study.id)
        assert [(a.trial_id, a.number, a.counted) for a in ended] == [(trial.id, n, False) for n in (1, 2, 3, 4)]
        assert {a.reason for a in ended} == {"the process that ran it ended"}
        assert store.fail_attempt(trial.id, "the worker died", max_attempts=2).state is TrialState.RUNNING

    def test_a_trial_that_fails_its_workers_too_often_is_set_aside(self, store, study):
        add_trial(store, study, "amc", 0, 0)
        trial = store.open_trial(study.id, "amc", 0, 1, point())
        for attempts in (2, 3):
            again = store.fail_attempt(trial.id, f"died of {attempts}", max_attempts=3)
            assert (again.state, again.attempts, again.point) == (TrialState.RUNNING, attempts, trial.point)
            assert again.started > trial.started
        closed = store.fail_attempt(trial.id, "out of memory\x00", max_attempts=3)
        assert (closed.state, closed.attempts, closed.finish_order) == (TrialState.FAILED, 3, 2)
        assert closed.reason == "set aside after 3 attempts, the last: out of memory\ufffd"
        ended = store.attempts(study.id)
        assert [a.reason for a in ended] == ["died of 2", "died of 3", "out of memory\ufffd"]
        assert all(a.counted and a.ended <= closed.finished for a in ended)
        with pytest.raises(StoreError, match="closed already"):
            store.fail_attempt(trial.id, "again", max_attempts=3)

    def test_one_attempt_is_the_reason_itself(self, store, study):
        trial = store.open_trial(study.id, "amc", 0, 0, point())
        assert store.fail_attempt(trial.id, "hung", max_attempts=1).reason == "hung"

    # -- a connection that is lost ---------------------------------------------------------------------------------

    def test_what_was_written_before_the_answer_was_lost_is_written_once(self, store, study, url, monkeypatch):
        with store.drive(study.id):

            def cut() -> None:
                monkeypatch.undo()
                lose_answer(store, monkeypatch)

            cut()
            made = new_study(store, "made_once")
            cut()
            trial = store.open_trial(made.id, "amc", 0, 0, point())
            cut()
            assert store.reopen_trial(trial.id).attempts == 2
            cut()
            assert store.fail_attempt(trial.id, "died", max_attempts=2).attempts == 3
            cut()
            closed = store.close_trial(trial.id, outcome(0.7))
            assert (closed.finish_order, closed.attempts, len(closed.measurements)) == (1, 3, 2)
            cut()
            store.add_measurements(
                trial.id,
                [Measurement("accuracy", 0.5, phase=Phase.TEST), Measurement("latency_ms", 2.0, phase=Phase.LATENCY)],
            )
            cut()
            store.add_artifact(made.id, trial.id, "onnx", "model.onnx", "a" * 64)
            second = store.open_trial(made.id, "amc", 0, 1, point())
            cut()
            assert store.fail_attempt(second.id, "died", max_attempts=1).finish_order == 2
            monkeypatch.undo()
        with open_store(url) as again:
            assert [study.name for study in again.studies()] == ["digits", "made_once"]
            first, second = again.trials(made.id)
            assert first.values == {"accuracy": 0.7, "macs": 900.0}
            assert (first.values_of(Phase.TEST), first.values_of(Phase.LATENCY)) == (
                {"accuracy": 0.5},
                {"latency_ms": 2},
            )
            assert len(first.measurements) == 4 and len(again.artifacts(made.id)) == 1
            assert [(a.trial_id, a.number) for a in again.attempts(made.id)] == [
                (first.id, 1),
                (first.id, 2),
                (second.id, 1),
            ]

    def test_what_was_not_written_is_written_then(self, store, study, monkeypatch):
        real, failures = store.database.write, [None, None]

        @contextlib.contextmanager
        def write():
            with real() as connection:
                yield connection
                if failures:
                    failures.pop()
                    raise ConnectionLostError("the line is cut")

        trial = store.open_trial(study.id, "amc", 0, 0, point())
        monkeypatch.setattr(store.database, "write", write)
        closed = store.close_trial(trial.id, Outcome.done([Measurement("accuracy", 0.5)]))
        assert failures == [] and closed.finish_order == 1 and store.trial(trial.id) == closed

    def test_a_server_that_stays_away_is_an_error(self, store, study, monkeypatch):
        monkeypatch.setattr(store.database, "patience_s", 0.5)
        lose_answer(store, monkeypatch, times=100)
        started = time.monotonic()
        with pytest.raises(ConnectionLostError, match="the line is cut"):
            store.open_trial(study.id, "amc", 0, 0, point())
        assert time.monotonic() - started < 5
