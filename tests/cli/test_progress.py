"""What a running study tells, in a log and on a terminal."""

from __future__ import annotations

import io
import json
import re
import time
from datetime import datetime

import pytest

from automl.lanes.progress import Progress
from automl.store import open_store
from automl.testing.toy_space import toy_problem
from automl.types import Measurement, Outcome
from automl.util.duration import duration
from tests.kits.runners import GOAL, new_session, new_study


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def lane(tmp_path):
    """Runs `n` trials of a lane that plans 6, watched; the third fails."""
    problem = toy_problem()
    with open_store(tmp_path / "study.db") as store:
        study = new_study(store, problem)

        def run(progress: Progress, n: int, limits: dict[str, float] | None = None) -> None:
            session = new_session(store, study, problem, trials=6, observers=[progress])
            progress.plan([session], limits)
            for _ in range(n):
                record = session.propose()
                value = Outcome.done([Measurement("accuracy", record.number / 10), Measurement("macs", 2.0)])
                session.finish(record.id, Outcome.failed("out of memory") if record.number == 2 else value)

        yield run


def test_a_log_gets_a_line_now_and_then_and_one_for_every_failure_and_lane(lane):
    stream = io.StringIO()
    with Progress(GOAL, stream=stream, every_s=3600) as progress:
        lane(progress, 6)
    failure, end = stream.getvalue().splitlines()
    assert re.fullmatch(
        r"3 of 6 trials, about [\d.]+ s left; random, seed 0, 3/6, best accuracy 0.1000; trial 2 failed: out of memory",
        failure,
    )
    assert end == "6 of 6 trials; random, seed 0, 6/6, best accuracy 0.5000"


def test_a_log_can_have_every_trial(lane):
    stream = io.StringIO()
    with Progress(GOAL, stream=stream, every_s=0) as progress:
        lane(progress, 6)
    assert len(stream.getvalue().splitlines()) == 1 + 6


def test_a_resumed_lane_counts_what_it_has(lane):
    lane(Progress(GOAL, quiet=True), 4)
    stream = io.StringIO()
    with Progress(GOAL, stream=stream, every_s=0) as progress:
        lane(progress, 1)
    first, second = stream.getvalue().splitlines()
    assert first == "4 of 6 trials"
    assert second.startswith("5 of 6 trials; random, seed 0, 5/6, best accuracy 0.4000")


def test_a_terminal_gets_a_table_that_is_drawn_anew(lane, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with Progress(GOAL, stream=stream, every_s=0) as progress:
        lane(progress, 5, {"macs": 4.0})
        progress.say("measuring")
        time.sleep(0.6)
    assert "\x1b[?25h" in stream.getvalue(), "the cursor is shown again"
    assert "\x1b[1A" in stream.getvalue(), "it goes up and writes over what was there"
    plain = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", stream.getvalue())
    assert re.search(r"5 of 6 trials, about [\d.]+ s left", plain)
    assert re.search(r"random +0 +5/6 +1 +0\.4000 +macs 50\.0%", plain)
    assert "random, seed 0, trial 2 failed: out of memory" in plain
    assert plain.index("measuring") < plain.rindex("5/6"), "what is said stands above the table"


def test_a_program_gets_one_object_an_event(lane):
    stream = Terminal()
    with Progress(GOAL, stream=stream, form="json") as progress:
        lane(progress, 6, {"macs": 4.0})
        progress.say("measuring")
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [event.pop("event") for event in events] == ["plan", *["trial"] * 6, "message"]
    assert all(datetime.fromisoformat(event.pop("time")).tzinfo for event in events)
    assert events[0]["lanes"] == [{"agent": "random", "seed": 0, "finished": 0, "planned": 6}]
    assert [(e["number"], e["state"], e["finished"], e["planned"]) for e in events[1:7]] == [
        (n, "failed" if n == 2 else "done", n + 1, 6) for n in range(6)
    ]
    assert events[3]["reason"] == "out of memory" and events[3]["values"] == {}
    assert events[6]["best"] == 0.5 and events[6]["budget_use"] == {"macs": 0.5} and events[6]["left_s"] is None
    assert events[5]["left_s"] > 0
    assert events[7] == {"text": "measuring"}


def test_quiet_says_nothing(lane):
    stream = Terminal()
    with Progress(GOAL, stream=stream, every_s=0, quiet=True) as progress:
        lane(progress, 6)
        progress.say("measuring")
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.44, "0.4 s"), (12.3, "12 s"), (185, "3:05 min"), (7800, "2:10 h"), (99, "99 s")]
)
def test_durations_are_for_people(seconds, text):
    assert duration(seconds) == text
