"""What an agent tells of itself is on record beside each trial, and disturbs nothing that reads trials."""

from __future__ import annotations

import math

import pytest

import agents
from agents import TrialState
from automl.lanes.session import Session
from automl.store import OptunaProjection, StoreError, frame, open_store
from automl.types import Measurement, Outcome
from tests.kits.runners import GOAL, ToyEvaluator, new_study

TRIALS = 10
WARMUP = 4
NAMES = {"noise", "critic_loss", "q_mean", "baseline"}


class Talks:
    """Proposes the Points it is given, and tells of itself what it is told to."""

    max_trials = None

    def __init__(self, points, diagnostics):
        self.points, self.told, self._diagnostics = points, [], diagnostics

    def ask(self, n, running):
        return self.points[len(self.told) + len(running) :][:n]

    def tell(self, finished):
        self.told += finished

    def diagnostics(self):
        return self._diagnostics


@pytest.fixture
def points(problem):
    agent = agents.create("random", space=problem.space, goal=GOAL, limits=problem.limits, seed=5, trials=4)
    return list(agent.ask(4, []))


def amc(store, study, problem, *, seed=0, observers=(), diagnose=None) -> Session:
    agent = agents.create(
        "amc",
        space=problem.space,
        goal=GOAL,
        limits=problem.limits,
        seed=seed,
        trials=TRIALS,
        warmup=WARMUP,
        hidden=16,
    )
    if diagnose is not None:
        agent.diagnostics = diagnose
    return Session(store, study, "amc", seed, agent, TRIALS, observers=observers)


def run(session, evaluate, n: int = TRIALS) -> None:
    while n and (record := session.propose()) is not None:
        session.finish(record.id, evaluate(record.point))
        n -= 1


def done(value: float) -> Outcome:
    return Outcome.done([Measurement("accuracy", value)])


def test_they_are_recorded_on_the_trial_from_which_the_agent_has_learnt(store, study, problem):
    seen = []
    run(amc(store, study, problem, observers=[seen.append]), ToyEvaluator(problem))
    records = store.trials(study.id)
    assert all(record.diagnostics == {} for record in records[: WARMUP - 1])
    assert all(set(record.diagnostics) == NAMES for record in records[WARMUP:])
    noises = [record.diagnostics["noise"] for record in records[WARMUP:]]
    assert noises == sorted(noises, reverse=True) and noises[0] > noises[-1] > 0
    assert seen == records


def test_nothing_that_reads_trials_sees_them(store, study, problem):
    run(amc(store, study, problem), ToyEvaluator(problem))
    for record in store.trials(study.id):
        assert set(record.values) == set(record.to_trial().values) == {"accuracy", "macs"}
    table = frame(store, study.name)
    assert not [column for column in table.columns if any(name in column for name in NAMES)]
    projection = OptunaProjection.of(store, study)
    assert projection.sync(strict=True) == TRIALS
    import optuna

    lane = optuna.load_study(study_name="toy/amc/0", storage=store.url)
    assert not [name for trial in lane.trials for name in trial.user_attrs if any(told in name for told in NAMES)]
    projection.close()


def test_a_replay_tells_none_and_records_none_again(store, study, problem, points):
    first = Session(store, study, "talks", 0, Talks(points, {"noise": 0.5}), trials=2)
    first.finish(first.propose().id, done(0.3))
    before = store.trials(study.id)
    assert before[0].diagnostics == {"noise": 0.5}
    agent = Talks(points, {"noise": 0.1})
    Session(store, study, "talks", 0, agent, trials=2)
    assert [dict(trial.values) for trial in agent.told] == [{"accuracy": 0.3}]
    assert store.trials(study.id) == before


def test_a_repeated_point_has_the_diagnostics_of_the_agent_that_repeats_it(store, study, points):
    for name, diagnostics in (("first", {"noise": 0.5}), ("second", {"entropy": 2.0}), ("silent", {})):
        session = Session(store, study, name, 0, Talks(points[:1], diagnostics), trials=1)
        if (record := session.propose()) is not None:
            session.finish(record.id, done(0.3))
        (record,) = store.trials(study.id, agent=name)
        assert record.diagnostics == diagnostics
        assert record.measurements == (Measurement("accuracy", 0.3),)


def test_a_process_that_dies_before_they_are_recorded_loses_them_only(tmp_path, problem):
    courses = []
    for name in ("through", "killed"):
        with open_store(tmp_path / f"{name}.db") as store:
            study = new_study(store, problem)
            if name == "killed":
                run(amc(store, study, problem), ToyEvaluator(problem), WARMUP + 2)
                dying = amc(store, study, problem, diagnose=_die)
                with pytest.raises(KeyboardInterrupt):
                    run(dying, ToyEvaluator(problem), 1)
            run(amc(store, study, problem), ToyEvaluator(problem))
            records = store.trials(study.id)
            courses.append([(record.point, record.values, record.diagnostics) for record in records])
    assert courses[1][WARMUP + 2][2] == {}
    courses[1][WARMUP + 2] = courses[0][WARMUP + 2]
    assert courses[0] == courses[1]


def _die() -> None:
    raise KeyboardInterrupt


def test_a_trial_without_a_value_teaches_nothing_and_has_none(store, study, points):
    session = Session(store, study, "talks", 0, Talks(points, {"noise": 0.5}), trials=2)
    session.finish(session.propose().id, Outcome.failed("out of memory"))
    session.finish(session.propose().id, done(0.3))
    records = store.trials(study.id)
    assert [(record.state, record.diagnostics) for record in records] == [
        (TrialState.FAILED, {}),
        (TrialState.DONE, {"noise": 0.5}),
    ]


def test_a_critic_that_diverges_does_not_end_the_study(store, study, points):
    session = Session(store, study, "talks", 0, Talks(points, {"noise": 0.5, "critic_loss": math.inf}), trials=1)
    session.finish(session.propose().id, done(0.3))
    assert store.trials(study.id)[0].diagnostics == {"noise": 0.5}


def test_they_belong_to_a_trial_that_exists(store):
    with pytest.raises(StoreError, match="no trial with id 7"):
        store.add_diagnostics(7, {"noise": 0.5})
