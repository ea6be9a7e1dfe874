"""Ctrl-C in real processes: once ends cleanly, twice at once; the study goes on either way."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from automl.runners import SerialRunner
from automl.store import open_store
from automl.testing.toy_space import toy_problem
from tests.kits.toy_driver import SleepyEvaluator, course, new_toy_study, spawn_driver, toy_session

TRIALS = 12


@pytest.fixture(scope="module")
def through(tmp_path_factory) -> list[tuple]:
    """The course of a study that ran through."""
    with open_store(tmp_path_factory.mktemp("through") / "study.db") as store:
        study = new_toy_study(store)
        SerialRunner().run(toy_session(store, study, TRIALS), SleepyEvaluator(toy_problem(), 0.0))
        return course(store, study)


def processes_that_name(text: str) -> list[int]:
    """Those of this machine in whose command line or environment `text` stands."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if text.encode() in (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
            except OSError:  # it has ended
                continue
    return found


def gone(text: str, within_s: float = 60.0) -> bool:
    """Whether no such process is left after a while: told to end, Ray's give theirs up to half a minute."""
    until = time.monotonic() + within_s
    while processes_that_name(text):
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


@pytest.mark.parametrize(("workers", "presses"), [(0, 1), (0, 2), (1, 2)])
def test_a_study_that_was_interrupted_goes_on_as_if_it_had_not_been(through, tmp_path, workers, presses, monkeypatch):
    mark = f"interrupted-{os.getpid()}-{workers}-{presses}"
    monkeypatch.setenv("AUTOML_TEST_MARK", mark)  # inherited by all that the process starts
    url = f"sqlite:///{tmp_path}/study.db"
    with open_store(url) as store:
        study = new_toy_study(store)
        # Trials of Ray's worker outlast its tidy end, which gives them two seconds.
        process = spawn_driver(
            url, "--workers", workers, "--trials", TRIALS, "--wait-s", "3" if workers else "0.3", cwd=tmp_path
        )
        try:
            lines = [json.loads(process.stdout.readline()) for _ in range(3)]
            assert lines[0] == "begins" and [line[1] for line in lines[1:]] == [0, 1]
            until = time.monotonic() + 30
            while not store.running(study.id) and time.monotonic() < until:
                time.sleep(0.01)
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all in the foreground
            if presses == 2:
                if workers:
                    assert process.stderr.readline() == "\n"
                    assert process.stderr.readline().startswith("stopping, Ctrl-C again ends at once")
                try:
                    os.killpg(process.pid, signal.SIGINT)
                except ProcessLookupError:
                    assert not workers
            rest, said = process.communicate(timeout=30)
            # A second one may find it all but gone, where Python leaves signals to the system: a shell sees 130 too.
            assert process.returncode in ((130, -signal.SIGINT) if (workers, presses) == (0, 2) else (130,)), said
            if presses == 2 and workers:
                assert "ended at once" in said
            assert rest == "" and "Traceback" not in said
            assert gone(mark, 60 if presses == 1 else 10), "workers, and all else of Ray, end with their driver"
        finally:
            process.kill()
        trials = store.trials(study.id)
        assert [trial.state.finished for trial in trials] == [True, True, False]
        with store.drive(study.id):
            SerialRunner().run(toy_session(store, study, TRIALS), SleepyEvaluator(toy_problem(), 0.0))
        assert course(store, study) == through
        assert [attempt.counted for attempt in store.attempts(study.id)] == [False], "it is not the trial's fault"
