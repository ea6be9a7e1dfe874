"""What any runner must do: subclass `RunnerConformance` and give it a fixture `runner`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

import agents
from agents import Goal, TrialState
from automl.lanes.session import Lanes, Session
from automl.runners import Runner
from automl.store import Store, StudyRecord, TrialRecord, open_store
from automl.testing.toy_space import ToyAccuracy, toy_problem
from automl.types import Measurement, Outcome
from search_spaces import Point

GOAL = Goal("accuracy", "maximize")
TRIALS = 8


def new_study(store: Store, problem: ToyAccuracy, name: str = "toy") -> StudyRecord:
    config = {
        "knobs": [{"name": k.name, "levels": list(k.levels), "unit": k.unit} for k in problem.space.knobs],
        "goal": {"metric": GOAL.metric, "direction": GOAL.direction},
        "limits": problem.limits,
    }
    return store.create_study(name, config, code_version="1", environment={})


def new_session(
    store: Store,
    study: StudyRecord,
    problem: ToyAccuracy,
    agent: str = "random",
    *,
    seed: int = 0,
    trials: int = TRIALS,
    observers: Sequence[Callable[[TrialRecord], None]] = (),
    max_attempts: int = 1,
) -> Session:
    made = agents.create(agent, space=problem.space, goal=GOAL, limits=problem.limits, seed=seed, trials=trials)
    return Session(store, study, agent, seed, made, trials, observers=observers, max_attempts=max_attempts)


def proposals(problem: ToyAccuracy, n: int = TRIALS) -> list[Point]:
    """What the agent "random" proposes first, whatever it is told."""
    agent = agents.create("random", space=problem.space, goal=GOAL, limits=problem.limits, seed=0, trials=n)
    return list(agent.ask(n, []))


class ToyEvaluator:
    """The made-up accuracy; raises, dies or waits where it is told to. Picklable."""

    def __init__(
        self, problem: ToyAccuracy, *, raises: Sequence[Point] = (), kills: Sequence[Point] = (), wait_s: float = 0.0
    ) -> None:
        self.problem = problem
        self.raises = {point.key for point in raises}
        self.kills = {point.key for point in kills}
        self.wait_s = wait_s

    def __call__(self, point: Point, rival: Point | None = None) -> Outcome:
        time.sleep(self.wait_s)
        if point.key in self.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        if point.key in self.raises:
            raise ArithmeticError("this network is cursed")
        macs = self.problem.space.cost(point, "macs")
        return Outcome.done(
            [Measurement("accuracy", self.problem(point), n=100, spread=0.01), Measurement("macs", macs)]
        )


class Fragile:
    """Fails its first attempts at each of the Points `at`, in a way and so many times; files in `folder` count them.

    The ways: "dies" ends the process, "hangs" sleeps for long, "memory" asks for more than there is.
    """

    def __init__(self, folder: Path, at: Mapping[Point, tuple[str, int]]) -> None:
        self.folder = str(folder)
        self.at = {point.key: how for point, how in at.items()}

    def __call__(self, point: Point, rival: Point | None = None) -> Outcome:
        if point.key in self.at:
            way, times = self.at[point.key]
            attempts = Path(self.folder) / f"{way}-{times}.txt"
            with attempts.open("a") as file:
                file.write("attempt\n")
            if len(attempts.read_text().splitlines()) <= times:
                if way == "dies":
                    os.kill(os.getpid(), signal.SIGKILL)
                if way == "hangs":
                    time.sleep(600)
                torch.empty(2**60, dtype=torch.int8)
        return Outcome.done([Measurement("accuracy", 0.5)])


class TellsProcess:
    """Takes a moment, and measures which process it runs in, and on how many threads."""

    def __call__(self, point: Point, rival: Point | None = None) -> Outcome:
        time.sleep(0.3)
        found = {"accuracy": 0.5, "process": os.getpid(), "threads": torch.get_num_threads()}
        return Outcome.done([Measurement(metric, float(value)) for metric, value in found.items()])


class Unloadable:
    """Can be pickled, but not loaded again."""

    def __call__(self, point: Point, rival: Point | None = None) -> Outcome:
        raise AssertionError("this cannot be loaded, let alone called")

    def __reduce__(self) -> tuple[Any, ...]:
        return _refuse, ()


def _refuse() -> None:
    raise ModuleNotFoundError("No module named 'models_of_mine'")


def interrupt_after(n: int) -> Callable[[TrialRecord], None]:
    """An observer that presses Ctrl-C when the `n`th trial of this process has finished."""
    seen = []

    def observe(record: TrialRecord) -> None:
        seen.append(record)
        if len(seen) == n:
            signal.raise_signal(signal.SIGINT)

    return observe


class RunnerConformance:
    """The subclass defines a fixture `runner`: a `Runner`."""

    isolated: ClassVar[bool]
    """Whether a trial runs in a process of its own, so that its death is survived."""

    @pytest.fixture
    def problem(self) -> ToyAccuracy:
        return toy_problem()

    @pytest.fixture
    def store(self, tmp_path):
        with open_store(tmp_path / "study.db") as store:
            yield store

    @pytest.fixture
    def study(self, store, problem) -> StudyRecord:
        return new_study(store, problem)

    def test_every_trial_is_evaluated_recorded_and_told_once(self, runner: Runner, store, study, problem):
        told = []
        session = new_session(store, study, problem, observers=[told.append])
        runner.run(session, ToyEvaluator(problem))
        assert session.done
        records = store.trials(study.id)
        assert [record.number for record in records] == list(range(TRIALS))
        assert [record.point for record in records] == proposals(problem)
        assert sorted(record.finish_order for record in records) == list(range(1, TRIALS + 1))
        assert [record.finish_order for record in told] == list(range(1, TRIALS + 1))
        for record in records:
            assert record.state is TrialState.DONE
            assert record.values["accuracy"] == problem(record.point)
            assert record.measurements[0].spread == 0.01
            assert record.wall_s is not None and 0 < record.wall_s < 60
        runner.run(new_session(store, study, problem), ToyEvaluator(problem, raises=proposals(problem)))
        assert store.trials(study.id) == records, "a finished session costs nothing"

    def test_a_trial_that_raises_or_whose_process_dies_fails_alone(self, runner: Runner, store, study, problem):
        points = proposals(problem)
        raises, kills = points[2], points[4:5] if self.isolated else []
        runner.run(new_session(store, study, problem), ToyEvaluator(problem, raises=[raises], kills=kills))
        failed = {r.point: r.reason for r in store.trials(study.id) if r.state is TrialState.FAILED}
        assert failed.pop(raises) == "ArithmeticError: this network is cursed"
        for point in kills:
            assert failed.pop(point).startswith("the worker was lost: The actor died")
        assert failed == {}
        done = [r.point for r in store.trials(study.id) if r.state is TrialState.DONE]
        assert done == [point for point in points if point not in (raises, *kills)]

    def test_an_interrupted_session_is_resumed_without_losing_a_trial(self, runner: Runner, store, study, problem):
        session = new_session(store, study, problem, observers=[interrupt_after(3)])
        with pytest.raises(KeyboardInterrupt):
            runner.run(session, ToyEvaluator(problem, wait_s=0.05))
        before = {record.id: record for record in store.trials(study.id) if record.state.finished}
        assert 3 <= len(before) < TRIALS
        again = new_session(store, study, problem)
        runner.run(again, ToyEvaluator(problem))
        records = store.trials(study.id)
        assert {record.id: record for record in records if record.id in before} == before
        assert [record.point for record in records] == proposals(problem)
        assert all(record.state is TrialState.DONE for record in records)

    def test_what_may_pass_is_tried_again_and_set_aside_the_third_time(
        self, runner: Runner, store, study, problem, tmp_path
    ):
        points = proposals(problem)
        ways = [("memory", 2), ("memory", 3), *([("dies", 3)] if self.isolated else [])]
        hows = dict(zip(points[1:], ways, strict=False))
        session = new_session(store, study, problem, max_attempts=3)
        runner.run(session, Fragile(tmp_path, hows))
        records = store.trials(study.id)
        assert session.done and [record.point for record in records] == points
        for record in records:
            way, times = hows.get(record.point, (None, 0))
            assert record.attempts == (1 if way is None else 3)
            assert record.state is (TrialState.FAILED if times == 3 else TrialState.DONE)
            if record.state is TrialState.FAILED:
                started = {"memory": "out of memory: ", "dies": "the worker was lost: The actor died"}[way]
                assert record.reason.startswith(f"set aside after 3 attempts, the last: {started}")
        assert len(store.attempts(study.id)) == sum(times for _, times in hows.values())
        assert all(attempt.counted for attempt in store.attempts(study.id))

    def test_what_goes_wrong_in_the_driver_ends_the_run_and_no_trial(self, runner: Runner, store, study, problem):
        def full(record: TrialRecord) -> None:
            raise OSError("No space left on device")

        with pytest.raises(OSError, match="No space left"):
            runner.run(new_session(store, study, problem, observers=[full]), ToyEvaluator(problem))
        assert TrialState.FAILED not in {record.state for record in store.trials(study.id)}

    def test_several_lanes_run_to_their_ends(self, runner: Runner, store, study, problem):
        lanes = Lanes([new_session(store, study, problem, name) for name in ("uniform", "random", "amc")])
        runner.run(lanes, ToyEvaluator(problem))
        assert lanes.done
        counts = [len(store.trials(study.id, agent=name)) for name in ("uniform", "random", "amc")]
        assert counts == [1, TRIALS, TRIALS]
