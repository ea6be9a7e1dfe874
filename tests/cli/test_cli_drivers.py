"""Two processes and one study: the second is refused in one sentence, and takes over when the first is gone."""

from __future__ import annotations

import signal
import time

import pytest

from automl.store import StoreError, open_store
from tests.cli.conftest import DIGITS, automl, spawn


def running(database) -> int:
    try:
        with open_store(database, create=False) as store:
            return len(store.trials(store.study("amc-digits").id))
    except StoreError:  # the search has not come that far
        return 0


@pytest.mark.slow
def test_a_second_search_of_the_same_study_is_refused_until_the_first_is_gone(tmp_path):
    database = tmp_path / "study.db"
    first = spawn("search", DIGITS, "--storage", database, "--trials", "5000", cwd=tmp_path)
    try:
        until = time.monotonic() + 120
        while running(database) < 3 and first.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        second = automl("search", DIGITS, "--storage", database, "--trials", "5000")
        assert second.code == 1 and first.poll() is None
        assert f"'amc-digits' in {database} is being run by process {first.pid} on " in second.err
        assert second.err.rstrip().splitlines()[-1].startswith("automl: study ")
        assert "automl resume amc-digits" in second.err and "Traceback" not in second.err
        for reading in (("trials", "amc-digits"), ("studies",)):
            assert automl(*reading, "--storage", database).code == 0
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate()
    third = spawn("resume", "amc-digits", "--storage", database, "--trials", "5000", "--progress", "json", cwd=tmp_path)
    try:
        line = third.stderr.readline()
        assert '"event": "plan"' in line, "a driver that is dead is succeeded at once"
    finally:
        third.send_signal(signal.SIGINT)
        _, said = third.communicate(timeout=60)
    assert third.returncode == 130
    assert said.splitlines()[-1].startswith('{"event": "message"') and "automl resume amc-digits" in said
