"""A lane: write first, then learn; resume is replay; what is known is not evaluated again."""

from __future__ import annotations

import random

import pytest

import agents
from agents import Goal, TrialState
from automl.lanes.session import Lanes, Session
from automl.runners import run_trial
from automl.store import StudyRecord, open_store
from automl.types import Measurement, Outcome, Phase
from search_spaces import Point
from tests.kits.runners import GOAL, ToyEvaluator, new_session, new_study

TRIALS = 14
AMC = {"warmup": 4, "hidden": 32}


def start(store, study: StudyRecord, problem, agent="amc", seed=0, trials=TRIALS, **options) -> Session:
    made = agents.create(
        agent, space=problem.space, goal=GOAL, limits=problem.limits, seed=seed, trials=trials, **options
    )
    return Session(store, study, agent, seed, made, trials)


def run(session, problem, n: int | None = None) -> None:
    """Take and finish `n` trials, or all there are."""
    evaluate = ToyEvaluator(problem)
    while (n is None or n > 0) and (record := session.propose()) is not None:
        session.finish(record.id, run_trial(evaluate, record.point))
        n = None if n is None else n - 1


def course(store, study, agent="amc", seed=0) -> list[tuple]:
    """What a lane has tried and learnt, in the order in which it was learnt."""
    records = sorted(store.trials(study.id, agent=agent, seed=seed), key=lambda record: record.finish_order or 0)
    return [(record.number, record.point, record.state, record.values.get("accuracy")) for record in records]


class Scripted:
    """An agent that proposes the Points it is given, one a trial, and remembers what it is asked and told."""

    max_trials = None

    def __init__(self, points):
        self.points, self.told, self.asked_with = points, [], []

    def ask(self, n, running):
        self.asked_with.append([trial.number for trial in running])
        return self.points[len(self.told) + len(running) :][:n]

    def tell(self, finished):
        self.told += finished


class Watcher(Scripted):
    """Checks, whenever it is told, that the database already knows."""

    def __init__(self, points, store, study):
        super().__init__(points)
        self.store, self.study = store, study

    def tell(self, finished):
        recorded = {record.number: record for record in self.store.trials(self.study.id)}
        for trial in finished:
            assert trial.state.finished
            assert recorded[trial.number].state is trial.state
        super().tell(finished)


@pytest.fixture
def points(problem) -> list[Point]:
    """Six different Points."""
    agent = agents.create("random", space=problem.space, goal=GOAL, limits=problem.limits, seed=5, trials=6)
    return list(agent.ask(6, []))


def test_a_trial_is_recorded_before_it_is_handed_out_and_its_end_before_it_is_told(store, study, problem, points):
    agent = Watcher(points, store, study)
    session = Session(store, study, "watcher", 3, agent, trials=6)
    record = session.propose()
    assert store.trials(study.id) == [record]
    assert (record.agent, record.seed, record.number, record.state) == ("watcher", 3, 0, TrialState.RUNNING)
    assert record.point == points[0]
    session.finish(record.id, Outcome.failed("broken"))
    assert [(trial.number, trial.state, trial.reason) for trial in agent.told] == [(0, TrialState.FAILED, "broken")]


def test_an_agent_is_told_of_what_is_running(store, study, points):
    agent = Scripted(points)
    session = Session(store, study, "a", 0, agent, trials=6)
    first, second, third = (session.propose() for _ in range(3))
    assert agent.asked_with == [[], [0], [0, 1]]
    session.finish(second.id, Outcome.failed("x"))
    session.propose()
    assert agent.asked_with[-1] == [0, 2]
    assert [record.number for record in (first, second, third)] == [0, 1, 2]


def test_it_ends_after_the_planned_trials(store, study, problem):
    session = start(store, study, problem, trials=3)
    run(session, problem)
    assert session.done and session.propose() is None
    assert len(store.trials(study.id)) == 3


def test_nothing_is_proposed_while_the_last_trials_run_and_it_is_not_done(store, study, problem):
    session = start(store, study, problem, trials=2)
    records = [session.propose(), session.propose()]
    assert session.propose() is None and not session.done
    for record in records:
        session.finish(record.id, Outcome.failed("x"))
    assert session.done


def test_an_agent_that_makes_sense_once_runs_once(store, study, problem):
    session = start(store, study, problem, "uniform")
    run(session, problem)
    assert session.done and session.trials == 1
    assert len(store.trials(study.id)) == 1


def test_an_agent_with_nothing_left_to_try_ends_its_lane(store, study, points):
    session = Session(store, study, "a", 0, Scripted(points[:2]), trials=6)
    first, second = session.propose(), session.propose()
    assert session.propose() is None and not session.done, "it may think again once a trial has finished"
    session.finish(first.id, Outcome.failed("x"))
    session.finish(second.id, Outcome.failed("x"))
    assert session.propose() is None and session.done


@pytest.mark.parametrize("finished", range(0, TRIALS, 3))
@pytest.mark.parametrize("in_flight", [False, True])
def test_a_killed_lane_takes_the_course_of_one_that_ran_through(tmp_path, problem, finished, in_flight):
    courses = []
    for name, stop in (("through", None), ("killed", finished)):
        path = tmp_path / f"{name}.db"
        with open_store(path) as store:
            study = new_study(store, problem)
            session = start(store, study, problem, **AMC)
            run(session, problem, stop)
            if stop is not None and in_flight:
                session.propose()  # and here the process dies
        with open_store(path) as store:
            study = store.study("toy")
            session = start(store, study, problem, **AMC)
            assert len(session.finished) == (TRIALS if stop is None else stop)
            run(session, problem)
            assert all(record.attempts == 1 for record in session.finished[:stop])
            courses.append(course(store, study))
    assert courses[0] == courses[1]
    assert len({point for _, point, _, _ in courses[0]}) > TRIALS / 2


def test_parallel_trials_are_replayed_in_the_order_in_which_they_finished(tmp_path, problem):
    evaluate = ToyEvaluator(problem)
    courses = []
    for killed in (False, True):
        with open_store(tmp_path / f"{killed}.db") as store:
            study = new_study(store, problem)
            session, order = start(store, study, problem, **AMC), random.Random(1)
            running = [session.propose() for _ in range(3)]
            for step in range(TRIALS - 3):
                if killed and step == 6:  # a new process takes the running trials up again
                    session = start(store, study, problem, **AMC)
                    assert [session.propose().id for _ in running] == [record.id for record in running]
                    assert {record.attempts for record in session.running.values()} == {2}
                record = running.pop(order.randrange(3))
                session.finish(record.id, evaluate(record.point))
                running.append(session.propose())
            courses.append(course(store, study))
    numbers = [number for number, _, state, _ in courses[0] if state is TrialState.DONE]
    assert numbers != sorted(numbers), "the order of finishing is to differ from the order of starting"
    assert courses[0] == courses[1]


def test_a_point_known_to_the_study_is_answered_from_the_record(store, study, problem, points):
    first = Session(store, study, "first", 0, Scripted(points[:1]), trials=1)
    record = first.propose()
    first.finish(record.id, Outcome.done([Measurement("accuracy", 0.5, n=7, spread=0.1)], wall_s=2.0))
    store.add_measurements(
        record.id, [Measurement("accuracy", 0.9, phase=Phase.TEST), Measurement("latency_ms", 3.0, phase=Phase.LATENCY)]
    )
    agent = Scripted([points[0], points[1], points[0]])
    second = Session(store, study, "second", 0, agent, trials=3)
    handed_out = second.propose()
    assert (handed_out.number, handed_out.point) == (1, points[1])
    assert [(trial.number, dict(trial.values)) for trial in agent.told] == [(0, {"accuracy": 0.5})]
    second.finish(handed_out.id, Outcome.done([Measurement("accuracy", 0.6)]))
    assert second.propose() is None and second.done
    answered = [r for r in store.trials(study.id, agent="second") if r.repeat_of is not None]
    assert [(r.number, r.repeat_of, r.wall_s) for r in answered] == [(0, record.id, 0), (2, record.id, 0)]
    assert answered[0].measurements == (Measurement("accuracy", 0.5, n=7, spread=0.1),)


def test_a_point_that_failed_is_tried_again(store, study, points):
    session = Session(store, study, "twice", 0, Scripted([points[0], points[0]]), trials=2)
    session.finish(session.propose().id, Outcome.failed("out of memory"))
    assert session.propose().point == points[0]


def test_what_was_measured_at_the_end_is_not_told_when_more_trials_are_run(store, study, problem, points):
    session = Session(store, study, "a", 0, Scripted(points), trials=1)
    record = session.propose()
    session.finish(record.id, Outcome.done([Measurement("accuracy", 0.5)]))
    store.add_measurements(
        record.id,
        [Measurement("accuracy", 0.9, phase=Phase.TEST), Measurement("peak_activation_bytes", 10, phase=Phase.LATENCY)],
    )
    agent = Scripted(points)
    Session(store, study, "a", 0, agent, trials=2)
    assert [dict(trial.values) for trial in agent.told] == [{"accuracy": 0.5}]


@pytest.mark.parametrize("metric", ["test_loss", "latency_gain", "final_score", "peak_activation_bytes"])
def test_a_metric_of_the_users_own_is_told_whatever_it_is_called(store, study, points, metric):
    agent, goal = Scripted([points[0], points[0]]), Goal(metric, "maximize")
    session = Session(store, study, "a", 0, agent, trials=2, goal=goal)
    session.finish(session.propose().id, Outcome.done([Measurement("accuracy", 0.5), Measurement(metric, 0.25)]))
    assert session.propose() is None, "the second is answered from the record"
    told = [{"accuracy": 0.5, metric: 0.25}] * 2
    assert [dict(trial.values) for trial in agent.told] == told and session.best(goal).number == 0
    replayed = Scripted(points)
    Session(store, study, "a", 0, replayed, trials=2)
    assert [dict(trial.values) for trial in replayed.told] == told


def test_more_trials_go_on_where_fewer_ended(store, study, problem):
    run(start(store, study, problem, trials=5), problem)
    before = store.trials(study.id)
    session = start(store, study, problem, trials=8)
    run(session, problem)
    assert store.trials(study.id)[:5] == before
    assert [record.number for record in store.trials(study.id)] == list(range(8))


def test_best_is_the_earliest_of_the_highest_utility(store, study, points):
    session = Session(store, study, "a", 0, Scripted(points), trials=4)
    assert session.best(GOAL) is None
    for value in (0.5, 0.7, 0.7):
        session.finish(session.propose().id, Outcome.done([Measurement("accuracy", value)]))
    session.finish(session.propose().id, Outcome.infeasible("too big"))
    assert session.best(GOAL).number == 1


def test_observers_see_every_trial_that_finishes_answered_ones_too(store, study, points):
    seen = []
    agent = Scripted([points[0], points[0], points[1]])
    session = Session(store, study, "a", 0, agent, trials=3, observers=[lambda record: seen.append(record.number)])
    session.finish(session.propose().id, Outcome.done([Measurement("accuracy", 0.5)]))
    session.finish(session.propose().id, Outcome.failed("x"))
    assert seen == [0, 1, 2]


def test_lanes_run_one_after_the_other_with_one_worker(store, study, problem):
    lanes = Lanes([new_session(store, study, problem, name, trials=3) for name in ("uniform", "random", "amc")])
    names = []
    while (record := lanes.propose()) is not None:
        names.append(record.agent)
        lanes.finish(record.id, ToyEvaluator(problem)(record.point))
    assert names == ["uniform", *["random"] * 3, *["amc"] * (len(names) - 4)]
    assert lanes.done


def test_as_many_lanes_as_workers_take_the_course_of_one_worker(tmp_path, problem):
    courses = []
    for workers in (1, 3):
        with open_store(tmp_path / f"{workers}.db") as store:
            study = new_study(store, problem)
            lanes = Lanes([start(store, study, problem, seed=seed, **AMC) for seed in range(3)])
            evaluate, running = ToyEvaluator(problem), []
            while not lanes.done:
                while len(running) < workers and (record := lanes.propose()) is not None:
                    running.append(record)
                record = running.pop(0)
                lanes.finish(record.id, evaluate(record.point))
            courses.append([course(store, study, seed=seed) for seed in range(3)])
    assert courses[0] == courses[1]


def test_a_trial_that_fails_its_workers_is_run_again_then_set_aside_and_told(store, study, points):
    agent = Scripted(points)
    session = Session(store, study, "a", 0, agent, trials=2, max_attempts=3)
    lanes = Lanes([session])
    record = lanes.propose()
    for attempts in (2, 3):
        again = lanes.fail_attempt(record.id, "the worker died")
        assert (again.id, again.state, again.attempts) == (record.id, TrialState.RUNNING, attempts)
        assert list(session.running.values()) == [again] and agent.told == []
    aside = lanes.fail_attempt(record.id, "the worker died")
    assert aside.state is TrialState.FAILED and session.running == {}
    assert [(trial.number, trial.state, trial.reason) for trial in agent.told] == [
        (0, TrialState.FAILED, "set aside after 3 attempts, the last: the worker died")
    ]
    second = lanes.propose()
    assert lanes.fail_attempt(second.id, "the worker died").attempts == 2
    lanes.finish(second.id, Outcome.done([Measurement("accuracy", 0.5)]))
    assert lanes.done and session.best(GOAL).number == 1


def test_the_rival_is_the_best_so_far_whatever_was_before(store, study, points):
    values = [0.5, 0.7, 0.7, 0.6, 0.8]
    expected = [None, 0, 1, 1, 1]
    session = Session(store, study, "a", 0, Scripted(points), trials=6, goal=GOAL)
    for number, value in enumerate(values):
        if number == 3:  # taken up by another process
            session = Session(store, study, "a", 0, Scripted(points), trials=6, goal=GOAL)
        record = session.propose()
        rival = expected[number]
        assert session.rival(record.id) == (None if rival is None else points[rival])
        session.finish(record.id, Outcome.done([Measurement("accuracy", value)]))
    assert session.rival(session.propose().id) == points[4]
    assert Session(store, study, "b", 0, Scripted(points), trials=6).rival(0) is None, "no race"
