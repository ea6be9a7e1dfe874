"""What any database must do for a `Store`: subclass `StoreConformance` and give it a fixture `url`."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import sys
import time
import traceback
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from agents import TrialState
from automl.store import Store, StoreError, StudyExistsError, StudyNotFoundError, open_store
from automl.types import Measurement, Outcome, Phase
from search_spaces import Knob, Point

KNOBS = (Knob("stem", (2, 4, 6, 8)), Knob("block.conv1", tuple(range(1, 17))), Knob("bits", (2, 4, 8), "bits"))
LIMITS = {"macs": 1000.0}
CONFIG = {
    "knobs": [{"name": k.name, "levels": list(k.levels), "unit": k.unit} for k in KNOBS],
    "goal": {"metric": "accuracy", "direction": "maximize"},
    "limits": LIMITS,
}

# Children of a server that has imported everything: real processes, without waiting for torch in each.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.kits.stores", "tests.kits.drivers"])


def new_study(store: Store, name: str = "digits", config: dict | None = None):
    return store.create_study(
        name, CONFIG if config is None else config, code_version="abc123", environment={"torch": "2.13.0"}
    )


def point(stem: int = 4, conv1: int = 3, bits: int = 8) -> Point:
    return Point({"stem": stem, "block.conv1": conv1, "bits": bits})


def outcome(accuracy: float = 0.5, macs: float = 900.0) -> Outcome:
    return Outcome.done([Measurement("accuracy", accuracy, "fraction", 500, 0.01), Measurement("macs", macs)], 0.25)


def add_trial(store: Store, study, agent="random", seed=0, number=0, at=None, result: Outcome | None = None):
    trial = store.open_trial(study.id, agent, seed, number, at or point())
    return store.close_trial(trial.id, result or outcome())


def run_processes(target, *argument_lists, timeout: float = 60.0) -> list:
    """Run `target(barrier, *arguments)` in one process each, at once; what each returned, in no particular order.

    The first to fail ends them all.
    """
    answers, barrier = PROCESSES.Queue(), PROCESSES.Barrier(len(argument_lists))
    processes = [PROCESSES.Process(target=_answer, args=(answers, target, barrier, *a)) for a in argument_lists]
    for process in processes:
        process.start()
    returned = []
    try:
        for _ in processes:
            good, value = answers.get(timeout=timeout)
            assert good, value
            returned.append(value)
    finally:
        for process in processes:
            process.kill()
            process.join()
    return returned


def _answer(answers, target, *arguments) -> None:
    try:
        answers.put((True, target(*arguments)))
    except BaseException:
        answers.put((False, traceback.format_exc()))


def _create(barrier, url: str) -> str:
    barrier.wait(30)
    with open_store(url) as store:
        try:
            new_study(store, "wanted_by_all")
        except StudyExistsError:
            return "exists"
        return "created"


def _write(barrier, url: str, study_id: int, agent: str, n: int) -> str:
    with open_store(url) as store:
        barrier.wait(30)
        for number in range(n):
            trial = store.open_trial(study_id, agent, 0, number, point(conv1=number % 16 + 1))
            store.close_trial(trial.id, outcome(number / n))
    return "wrote"


def _close(barrier, url: str, trial_ids: list[int]) -> list[int]:
    with open_store(url) as store:
        barrier.wait(30)
        return [store.close_trial(trial_id, outcome()).finish_order for trial_id in trial_ids]


def _read(barrier, url: str, study_id: int, total: int) -> str:
    """Read until `total` trials are closed, opening the database anew each time; each state read must be whole."""
    barrier.wait(30)
    before = 0
    while before < total:
        with open_store(url, create=False) as store:
            trials = store.trials(study_id)
            closed = [t for t in trials if t.state.finished]
            assert all(len(t.measurements) == (2 if t.state.finished else 0) for t in trials)
            assert len(trials) - len(closed) <= 2, "each of the two writers has at most one trial open"
            assert len(closed) >= before, "a closed trial is gone"
            before = len(closed)
        time.sleep(0.005)
    return "read"


def _write_until_killed(url: str, study_id: int, first: int, closed) -> None:
    with open_store(url) as store:
        for number in range(first, sys.maxsize):
            trial = store.open_trial(study_id, "amc", 0, number, point(conv1=number % 16 + 1))
            store.close_trial(trial.id, outcome(accuracy=1 / (number + 1)))
            closed.send(number)


class StoreConformance:
    """The subclass defines a fixture `url`: the URL of a database of its own, empty, for each test."""

    @pytest.fixture
    def store(self, url):
        with open_store(url) as store:
            yield store

    @pytest.fixture
    def study(self, store):
        return new_study(store)

    # -- studies ---------------------------------------------------------------------------------------------------

    def test_a_study_comes_back_as_it_went_in(self, store, url):
        config = {**CONFIG, "text": 'naïve "quoted" 日本語 🗜', "nested": {"a": [1, 2.5, None, True]}, "tiny": 5e-324}
        made = store.create_study("größe_日本", config, code_version="v1+dirty", environment={"cpu": "x86"})
        assert (made.name, made.config, made.code_version) == ("größe_日本", config, "v1+dirty")
        assert made.environment == {"cpu": "x86"}
        assert abs(made.created - datetime.now(UTC)) < timedelta(minutes=1)
        with open_store(url, create=False) as again:
            assert again.study("größe_日本") == made
            assert again.studies() == [made]

    def test_the_url_of_a_store_opens_it_again(self, store, study):
        with open_store(store.url, create=False) as again:
            assert again.studies() == [study]

    def test_a_name_is_given_once(self, store, study):
        with pytest.raises(StudyExistsError, match="automl resume digits"):
            new_study(store, "digits", {"other": 1})
        assert store.studies() == [study]

    def test_of_processes_that_create_one_name_one_wins(self, url):
        # The tables are not there yet either, so that the race is also for making them.
        answers = run_processes(_create, *[(url,)] * 4)
        assert sorted(answers) == ["created", "exists", "exists", "exists"]

    def test_an_unknown_name_offers_the_nearest(self, store, study):
        new_study(store, "cifar")
        with pytest.raises(StudyNotFoundError, match="did you mean 'digits'"):
            store.study("digit")

    def test_without_studies_the_way_to_one_is_named(self, store):
        with pytest.raises(StudyNotFoundError, match="automl search"):
            store.study("digits")

    @pytest.mark.parametrize("name", ["", "  ", "x" * 201])
    def test_a_name_has_a_sensible_length(self, store, name):
        with pytest.raises(StoreError, match="1 to 200 letters"):
            new_study(store, name)

    @pytest.mark.parametrize("config", [{"a": math.nan}, {"a": [math.inf]}, {"a": object()}, {"a": np.float32(1)}])
    def test_a_config_holds_only_what_json_has(self, store, config):
        with pytest.raises(StoreError, match="JSON"):
            new_study(store, "bad", config)
        assert store.studies() == []

    # -- trials ----------------------------------------------------------------------------------------------------

    def test_an_open_trial_runs(self, store, study):
        trial = store.open_trial(study.id, "amc", 2**40, 0, point())
        assert (trial.agent, trial.seed, trial.number, trial.attempts) == ("amc", 2**40, 0, 1)
        assert trial.state is TrialState.RUNNING
        assert trial.point == point() and trial.point.key == point().key
        assert (trial.finished, trial.wall_s, trial.finish_order, trial.reason) == (None, None, None, None)
        assert trial.values == {} and trial.to_trial().state is TrialState.RUNNING
        assert store.trials(study.id) == store.running(study.id) == [trial] == [store.trial(trial.id)]

    def test_a_closed_trial_comes_back_as_it_went_in(self, store, study, url):
        measurements = (
            Measurement("accuracy", 0.1 + 0.2, "fraction", 5000, 0.0123456789, "cpu"),
            Measurement("loss", 1.5, step=2),
            Measurement("loss", 2.5, step=1),
            Measurement("macs", 123456789),
            Measurement("größe 🗜", -1.7976931348623157e308, unit="µs"),
            Measurement("tiny", 5e-324, spread=1.7976931348623157e308, step=2**40, n=2**40),
        )
        opened = store.open_trial(study.id, "amc", 0, 0, point())
        closed = store.close_trial(opened.id, Outcome.done(measurements, wall_s=1.25))
        assert closed.measurements == measurements
        assert closed.values["loss"] == 1.5, "the last step counts"
        assert closed.state is TrialState.DONE and closed.wall_s == 1.25 and closed.finish_order == 1
        assert opened.started == closed.started <= closed.finished <= datetime.now(UTC)
        assert closed.to_trial().values == closed.values and closed.to_trial().number == 0
        with open_store(url) as again:
            assert again.trials(study.id) == [closed]
            assert again.running(study.id) == []

    def test_numpy_scalars_come_back_as_numbers(self, store, study):
        measurement = Measurement("macs", np.int64(7), n=np.int64(3), spread=np.float32(0.5), step=np.int32(4))
        closed = add_trial(store, study, result=Outcome.done([measurement]))
        assert closed.measurements == (Measurement("macs", 7.0, n=3, spread=0.5, step=4),)
        assert type(closed.measurements[0].value) is float

    @pytest.mark.parametrize(
        "result", [Outcome.failed("out of memory\x00 \ud800 日本"), Outcome.infeasible("macs"), Outcome.done([])]
    )
    def test_every_end_is_recorded_with_its_reason(self, store, study, result):
        closed = add_trial(store, study, result=result)
        assert closed.state is result.state and closed.values == {}
        assert (closed.reason or "")[:5] == (result.reason or "")[:5]
        if result.reason and "memory" in result.reason:
            assert closed.reason == "out of memory\ufffd ? 日本", "no database takes NUL or half a character"

    def test_an_agent_learns_no_values_from_a_trial_that_failed(self, store, study):
        closed = add_trial(store, study, result=Outcome.failed("out of memory"))
        store.add_measurements(closed.id, [Measurement("macs", 1e9)])
        again = store.trial(closed.id)
        assert again.values == {"macs": 1e9} and again.to_trial().values == {}

    @pytest.mark.parametrize("spread", [math.nan, math.inf])
    def test_nan_never_enters(self, store, study, spread):
        trial = store.open_trial(study.id, "amc", 0, 0, point())
        bad = [Measurement("macs", 1.0), Measurement("accuracy", 0.5, spread=spread)]
        with pytest.raises(StoreError, match="the spread of accuracy must be finite"):
            store.close_trial(trial.id, Outcome.done(bad))
        with pytest.raises(StoreError, match="wall_s must be finite"):
            store.close_trial(trial.id, Outcome.done([], wall_s=spread))
        assert store.trials(study.id) == [trial], "nothing of a refused outcome is recorded"
        assert store.close_trial(trial.id, outcome()).state is TrialState.DONE

    def test_a_trial_closes_once(self, store, study):
        closed = add_trial(store, study)
        with pytest.raises(StoreError, match=r"trial 0 of random/0 .* is closed already \(done\)"):
            store.close_trial(closed.id, outcome(0.9))
        assert store.trials(study.id) == [closed]

    def test_a_trial_does_not_close_as_running(self, store, study):
        trial = store.open_trial(study.id, "amc", 0, 0, point())
        with pytest.raises(StoreError, match="got 'running'"):
            store.close_trial(trial.id, Outcome(TrialState.RUNNING))

    def test_a_number_is_given_once_in_a_lane(self, store, study):
        first = store.open_trial(study.id, "amc", 0, 0, point())
        with pytest.raises(StoreError, match="trial 0 of amc/0 is already recorded"):
            store.open_trial(study.id, "amc", 0, 0, point(2))
        store.open_trial(study.id, "amc", 1, 0, point())
        store.open_trial(study.id, "random", 0, 0, point())
        store.open_trial(new_study(store, "other").id, "amc", 0, 0, point())
        assert store.trials(study.id, agent="amc", seed=0) == [first]

    def test_unknown_ids_are_named(self, store, study):
        trial = store.open_trial(study.id, "amc", 0, 0, point())
        for use, what in [
            (lambda: store.open_trial(999, "amc", 0, 1, point()), "study with id 999"),
            (lambda: store.trials(999), "study with id 999"),
            (lambda: store.running(999), "study with id 999"),
            (lambda: store.trial(999), "trial with id 999"),
            (lambda: store.close_trial(999, outcome()), "trial with id 999"),
            (lambda: store.close_trial(trial.id, outcome(), repeat_of=999), "trial with id 999"),
            (lambda: store.reopen_trial(999), "trial with id 999"),
            (lambda: store.add_measurements(999, [Measurement("macs", 1.0)]), "trial with id 999"),
            (lambda: store.add_artifact(999, None, "onnx", "a", "b"), "study with id 999"),
            (lambda: store.add_artifact(study.id, 999, "onnx", "a", "b"), "trial with id 999"),
            (lambda: store.artifacts(999), "study with id 999"),
        ]:
            with pytest.raises(StoreError, match=f"has no {what}"):
                use()
        assert store.trials(study.id) == [trial]

    def test_finish_order_is_that_of_closing_within_the_lane(self, store, study):
        opened = {
            (agent, seed, number): store.open_trial(study.id, agent, seed, number, point(conv1=number + 1))
            for agent, seed in [("amc", 0), ("amc", 1), ("random", 0)]
            for number in range(4)
        }
        order = np.random.default_rng(0).permutation(len(opened))
        keys = [list(opened)[i] for i in order]
        expected: dict = {}
        for key in keys[:-1]:
            expected.setdefault(key[:2], []).append(key[2])
            store.close_trial(opened[key].id, outcome() if key[2] else Outcome.failed("x"))
        for lane, numbers in expected.items():
            trials = store.trials(study.id, agent=lane[0], seed=lane[1])
            assert [t.number for t in trials] == [0, 1, 2, 3]
            told = sorted((t for t in trials if t.finish_order), key=lambda t: t.finish_order)
            assert [t.number for t in told] == numbers
            assert [t.finish_order for t in told] == list(range(1, len(numbers) + 1))
        assert [(t.agent, t.seed, t.number) for t in store.running(study.id)] == [keys[-1]]

    def test_a_trial_left_running_is_handed_out_again(self, store, study):
        left = store.open_trial(study.id, "amc", 0, 0, point())
        add_trial(store, study, "amc", 0, 1)
        assert store.running(study.id, agent="amc", seed=0) == [left]
        assert store.running(study.id, agent="amc", seed=1) == store.running(study.id, agent="uniform") == []
        again = store.reopen_trial(left.id)
        assert (again.id, again.number, again.point) == (left.id, 0, left.point)
        assert again.attempts == 2 and again.started > left.started
        closed = store.close_trial(again.id, outcome())
        assert closed.finish_order == 2 and closed.attempts == 2
        with pytest.raises(StoreError, match="closed already"):
            store.reopen_trial(left.id)

    def test_a_repeated_point_is_found_across_lanes(self, store, study):
        store.open_trial(study.id, "amc", 0, 0, point())
        add_trial(store, study, "amc", 0, 1, result=Outcome.failed("x"))
        other = new_study(store, "other")
        add_trial(store, other)
        assert store.find_done(study.id, point().key) is None, "neither running, failed, nor another study's"
        first = add_trial(store, study, "uniform", 3, 0)
        second = store.open_trial(study.id, "random", 0, 0, point())
        second = store.close_trial(second.id, outcome(), repeat_of=first.id)
        assert second.repeat_of == first.id and first.repeat_of is None
        assert store.find_done(study.id, point().key) == first
        assert store.find_done(study.id, point(2).key) is None

    def test_measurements_are_added_after_the_end(self, store, study):
        closed = add_trial(store, study)
        store.add_measurements(
            closed.id, [Measurement("accuracy", 0.75, n=10000, phase=Phase.TEST), Measurement("accuracy", 0.6)]
        )
        store.add_measurements(closed.id, [])
        values = store.trial(closed.id).values
        assert values == {"accuracy": 0.6, "macs": 900.0}, "of equal steps the last added"
        assert store.trial(closed.id).values_of(Phase.TEST) == {"accuracy": 0.75}
        with pytest.raises(StoreError, match="must be finite"):
            store.add_measurements(closed.id, [Measurement("loss", 1.0), Measurement("x", 1.0, spread=math.nan)])
        assert store.trial(closed.id).values == values

    def test_a_phase_comes_back_and_agents_are_told_of_the_search_alone(self, store, study):
        measured = [Measurement("accuracy", i / 8, phase=phase) for i, phase in enumerate(Phase)]
        closed = add_trial(store, study, result=Outcome.done(measured))
        assert closed == store.trial(closed.id)
        assert {m.phase: m.value for m in closed.measurements} == {
            phase: i / 8 for i, phase in enumerate(Phase) if phase is not Phase.AGENT
        }
        assert closed.diagnostics == {"accuracy": list(Phase).index(Phase.AGENT) / 8}
        assert closed.to_trial().values == closed.values == closed.values_of(Phase.SEARCH) == {"accuracy": 0.0}
        assert list(closed.labelled()) == [
            "accuracy",
            "refitted_accuracy",
            "training_accuracy",
            "final_accuracy",
            "certified_accuracy",
            "scratch_accuracy",
            "test_accuracy",
            "latency:accuracy",
            "correction_accuracy",
            "supernet_accuracy",
        ]

    def test_artifacts_come_back(self, store, study):
        trial = add_trial(store, study)
        one = store.add_artifact(study.id, trial.id, "onnx", "winner/größe.onnx", "a" * 64)
        two = store.add_artifact(study.id, None, "picture", "kept.png", "b" * 64)
        assert store.artifacts(study.id) == [one, two]
        assert (one.kind, one.path, one.sha256, one.trial_id) == ("onnx", "winner/größe.onnx", "a" * 64, trial.id)
        assert two.trial_id is None
        assert store.artifacts(new_study(store, "other").id) == []

    def test_a_claim_to_project_is_held_by_one_until_it_lapses(self, store, study):
        trial = add_trial(store, study)
        assert store.claim_projection(trial.id, timedelta(minutes=1))
        assert not store.claim_projection(trial.id, timedelta(minutes=1))
        assert store.claim_projection(trial.id, timedelta(0)), "lapsed"
        store.release_projection(trial.id)
        assert store.claim_projection(trial.id, timedelta(minutes=1)), "given up"

    # -- processes -------------------------------------------------------------------------------------------------

    def test_readers_and_writers_do_not_disturb_each_other(self, store, study, url):
        n = 20
        writers = [(_write, url, study.id, agent, n) for agent in ("amc", "random")]
        readers = [(_read, url, study.id, 2 * n) for _ in range(8)]
        answers = run_processes(_either, *writers, *readers)
        assert sorted(answers) == ["read"] * 8 + ["wrote"] * 2
        for agent in ("amc", "random"):
            assert [t.finish_order for t in store.trials(study.id, agent=agent)] == list(range(1, n + 1))

    def test_no_place_in_the_order_of_finishing_is_given_twice(self, store, study, url):
        ids = [store.open_trial(study.id, "amc", 0, number, point()).id for number in range(30)]
        orders = run_processes(_close, *[(url, ids[i::3]) for i in range(3)])
        assert sorted(place for order in orders for place in order) == list(range(1, 31))
        assert all(order == sorted(order) for order in orders)

    def test_a_killed_writer_loses_no_closed_trial(self, store, study, url):
        first, closed = 0, []
        for wanted in (1, 4, 9):
            receive, send = PROCESSES.Pipe(duplex=False)
            writer = PROCESSES.Process(target=_write_until_killed, args=(url, study.id, first, send))
            writer.start()
            send.close()
            for _ in range(wanted):
                assert receive.poll(30)
                closed.append(receive.recv())
            os.kill(writer.pid, signal.SIGKILL)
            writer.join()
            closed += _rest(receive)
            with open_store(url) as again:
                trials = {t.number: t for t in again.trials(study.id)}
                for number in closed:
                    assert trials[number].state is TrialState.DONE
                    assert trials[number].values == {"accuracy": 1 / (number + 1), "macs": 900.0}
                assert len(again.running(study.id)) <= 1
                for left in again.running(study.id):
                    again.close_trial(again.reopen_trial(left.id).id, outcome(1 / (left.number + 1)))
                    closed.append(left.number)
                first = max(trials) + 1
        orders = [t.finish_order for t in store.trials(study.id)]
        assert orders == list(range(1, len(orders) + 1)) and len(orders) >= 14


def _either(barrier, target, *arguments):
    return target(barrier, *arguments)


def _rest(connection) -> list[int]:
    """What was still in the pipe when its writer died."""
    rest = []
    try:
        while connection.poll(0.1):
            rest.append(connection.recv())
    except EOFError:
        pass
    return rest
