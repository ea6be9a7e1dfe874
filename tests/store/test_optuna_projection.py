"""Optuna's tables show what our record says, live and after falling behind, and never disturb a study."""

import logging
from datetime import UTC

import optuna
import pytest
from optuna.distributions import IntDistribution
from optuna.trial import TrialState as OptunaState

from agents import Goal, TrialState
from automl.store import OptunaProjection, StoreError, open_store
from automl.store.optuna_projection import open_optuna_storage
from automl.types import Measurement, Outcome
from tests.kits.stores import KNOBS, LIMITS, add_trial, new_study, outcome, point, run_processes

GOAL = Goal("accuracy", "maximize")


@pytest.fixture
def store(any_url):
    with open_store(any_url) as store:
        yield store


@pytest.fixture
def study(store):
    return new_study(store)


@pytest.fixture
def projection(store, study):
    return OptunaProjection(store, study, KNOBS, GOAL, LIMITS)


def lane(store, name="digits/random/0") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=open_optuna_storage(store.url))


def shown(store, name="digits/random/0") -> list[optuna.trial.FrozenTrial]:
    return lane(store, name).get_trials()


def test_a_done_trial_shows_everything(store, study, projection):
    ours = add_trial(store, study, number=0, at=point(6, 5, 4), result=outcome(0.75, 900))
    projection.record(ours)
    (trial,) = shown(store)
    assert trial.state is OptunaState.COMPLETE and trial.value == 0.75
    assert trial.params == {"stem": 6, "block.conv1": 5, "bits": 4}
    assert trial.distributions == {
        "stem": IntDistribution(2, 8, step=2),
        "block.conv1": IntDistribution(1, 16),
        "bits": IntDistribution(2, 8, step=2),
    }
    assert trial.user_attrs == {
        "accuracy": 0.75,
        "macs": 900.0,
        "agent": "random",
        "seed": 0,
        "number": 0,
        "trial_id": ours.id,
        "state": "done",
        "feasible": True,
    }
    assert trial.datetime_start.astimezone(UTC) == ours.started
    assert trial.datetime_complete.astimezone(UTC) == ours.finished
    assert trial.intermediate_values == {}
    assert lane(store).metric_names == ["accuracy"] and lane(store).user_attrs["limits"] == LIMITS


def test_a_knob_with_one_level_and_a_repeat_are_shown(store, study):
    knobs = [type(KNOBS[0])(k.name, (point()[k.name],)) for k in KNOBS]
    first = add_trial(store, study)
    again = store.open_trial(study.id, "random", 0, 1, point())
    again = store.close_trial(again.id, outcome(), repeat_of=first.id)
    OptunaProjection(store, study, knobs, GOAL, LIMITS).sync(strict=True)
    assert [t.user_attrs.get("repeat_of") for t in shown(store)] == [None, first.id]


def test_limits_are_constraints_in_both_forms(store, study, projection):
    over = add_trial(store, study, number=0, result=outcome(0.9, macs=1500))
    within = add_trial(store, study, number=1, result=outcome(0.6, macs=1000))
    for trial in (over, within, add_trial(store, study, number=2, result=outcome(0.5, macs=10))):
        projection.record(trial)
    trials = shown(store)
    assert [t.constraints["macs"] for t in trials] == [500, 0, -990], "Optuna's"
    assert [t.system_attrs["constraints"] for t in trials] == [[500], [0], [-990]], "the dashboard's"
    assert [t.user_attrs["feasible"] for t in trials] == [False, True, True]
    assert lane(store).best_trial.user_attrs["trial_id"] == within.id


def test_every_end_is_shown_with_its_reason(store, study, projection):
    stopped = [Measurement("accuracy", 0.1 * step, step=step) for step in (1, 2, 3)]
    results = [
        Outcome.failed("out of memory"),
        Outcome.infeasible("macs 2000 > 1000"),
        Outcome(TrialState.STOPPED, tuple(stopped), "hopeless"),
        Outcome.done([Measurement("macs", 10.0)]),
    ]
    for number, result in enumerate(results):
        projection.record(add_trial(store, study, number=number, result=result))
    failed, infeasible, stopped, without = shown(store)
    assert failed.state is OptunaState.FAIL and failed.user_attrs["reason"] == "out of memory"
    assert failed.constraints == {} and "feasible" not in failed.user_attrs
    assert infeasible.state is OptunaState.PRUNED and infeasible.constraints["macs"] == 1
    assert infeasible.user_attrs["feasible"] is False and infeasible.user_attrs["reason"] == "macs 2000 > 1000"
    assert stopped.state is OptunaState.PRUNED and stopped.value == pytest.approx(0.3)
    assert stopped.intermediate_values == pytest.approx({1: 0.1, 2: 0.2, 3: 0.3})
    assert without.state is OptunaState.FAIL and without.user_attrs["state"] == "done"


def test_an_infeasible_trial_is_never_feasible(store, study, projection):
    trial = add_trial(store, study, result=Outcome.infeasible("cannot be built"))
    store.add_measurements(trial.id, [Measurement("macs", 10.0)])
    projection.record(store.trial(trial.id))
    assert shown(store)[0].user_attrs["feasible"] is False
    assert max(shown(store)[0].system_attrs["constraints"]) > 0


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_the_best_trial_is_ours(store, direction):
    study, goal = new_study(store, direction), Goal("accuracy", direction)
    projection = OptunaProjection(store, study, KNOBS, goal, LIMITS)
    for number, (accuracy, macs) in enumerate([(0.3, 900), (0.8, 1200), (0.7, 950), (0.1, 1200), (0.2, 990)]):
        projection.record(add_trial(store, study, number=number, result=outcome(accuracy, macs)))
    feasible = [t for t in store.trials(study.id) if t.values["macs"] <= 1000]
    best = max(feasible, key=lambda t: goal.utility(t.values["accuracy"]))
    assert lane(store, f"{direction}/random/0").best_trial.user_attrs["trial_id"] == best.id


def test_sync_repairs_what_fell_behind_and_changes_nothing_else(store, study, projection):
    opened = [store.open_trial(study.id, "random", 0, n, point(conv1=n + 1)) for n in range(6)]
    closed = [store.close_trial(opened[n].id, outcome(n / 10)) for n in (3, 0, 5, 1, 4)]
    projection.record(closed[1])
    add_trial(store, study, "amc", 7, 0)
    assert projection.sync() == 5
    numbers = [t.user_attrs["number"] for t in shown(store)]
    assert numbers == [0, 3, 5, 1, 4], "in the order of finishing, the running one left out"
    before = [t.params for t in shown(store)]
    assert projection.sync() == OptunaProjection(store, study, KNOBS, GOAL, LIMITS).sync() == 0
    assert [t.params for t in shown(store)] == before
    assert [t.user_attrs["number"] for t in shown(store, "digits/amc/7")] == [0]
    projection.record(store.close_trial(opened[2].id, outcome()))
    projection.record(store.trial(opened[2].id))
    assert len(shown(store)) == 6, "recorded once"


def test_what_the_config_recorded_is_enough(store, study):
    projection = OptunaProjection.of(store, study)
    assert (projection.knobs, projection.goal, projection.limits) == (KNOBS, GOAL, LIMITS)
    with pytest.raises(StoreError, match="'bare' has no 'knobs'"):
        OptunaProjection.of(store, new_study(store, "bare", {}))


def test_a_failure_is_warned_of_once_and_repaired_later(store, study, caplog):
    engine = store.database.engine
    store_url = store.url
    first = add_trial(store, study, number=0)
    good = OptunaProjection(store, study, KNOBS, GOAL, LIMITS)
    good.record(first)
    # Optuna refuses this: of a level that the knob does not have.
    bad = OptunaProjection(store, study, [type(KNOBS[0])(k.name, (1000,)) for k in KNOBS], GOAL, LIMITS)
    with caplog.at_level(logging.WARNING):
        for number in (1, 2, 3):
            bad.record(add_trial(store, study, number=number))
        assert bad.sync() == 0
    assert len(caplog.records) == 1 and "fall behind" in caplog.text and "automl dashboard" in caplog.text
    with pytest.raises(StoreError, match="cannot be brought up to date"):
        bad.sync(strict=True)
    assert len(shown(store)) == 1
    assert good.sync(strict=True) == 3, "a claim is given up after a failure"
    assert (store.url, store.database.engine) == (store_url, engine)
    assert len(store.trials(study.id)) == 4


def test_deleted_in_the_dashboard_it_comes_back(store, study, projection, caplog):
    projection.record(add_trial(store, study, number=0))
    optuna.delete_study(study_name="digits/random/0", storage=open_optuna_storage(store.url))
    with caplog.at_level(logging.WARNING):
        projection.record(add_trial(store, study, number=1))
    assert "fall behind" in caplog.text
    assert projection.sync() == 1, "the first is claimed for a while"
    assert [t.user_attrs["number"] for t in shown(store)] == [1]


def test_optuna_stays_quiet(store, study, projection, capfd, recwarn):
    projection.record(add_trial(store, study))
    assert capfd.readouterr() == ("", "")
    assert [w for w in recwarn if "optuna" in str(w.filename)] == []
    assert optuna.logging.get_verbosity() == optuna.logging.INFO


def _project(barrier, url: str, agent: str, n: int) -> int:
    with open_store(url) as store:
        study = store.study("digits")
        projection = OptunaProjection.of(store, study)
        barrier.wait(30)
        for number in range(n):
            projection.record(add_trial(store, study, agent, 0, number, point(conv1=number + 1)))
        projection.sync(strict=True)
    return n


def _sync_always(barrier, url: str, n: int) -> int:
    with open_store(url) as store:
        projection = OptunaProjection.of(store, store.study("digits"))
        barrier.wait(30)
        while len([t for t in store.trials(projection.study.id) if t.finish_order]) < n:
            projection.sync(strict=True)
    return n


def _any(barrier, target, *arguments):
    return target(barrier, *arguments)


def test_drivers_and_a_dashboard_project_at_once_without_doubling(store, study):
    n = 6
    writers = [(_project, store.url, agent, n) for agent in ("amc", "random")]
    run_processes(_any, *writers, (_sync_always, store.url, 2 * n))
    OptunaProjection.of(store, study).sync(strict=True)
    for agent in ("amc", "random"):
        numbers = sorted(t.user_attrs["number"] for t in shown(store, f"digits/{agent}/0"))
        assert numbers == list(range(n))
