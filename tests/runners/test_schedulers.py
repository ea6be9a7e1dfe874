"""Ray Tune's schedulers end trials that are trained; the record has every epoch; a kill changes nothing."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from agents import TrialState
from automl.config.schedulers import SchedulerOptions
from automl.config.study import StudyConfig
from automl.errors import ConfigError, StudyError
from automl.store import TrialRecord, open_store
from automl.study.setup import Setup
from automl.study.study import Study
from automl.testing.toy_space import toy_problem
from tests.cli.conftest import DIGITS
from tests.kits.runners import new_session, new_study, proposals
from tests.kits.toy_driver import GOAL, TrainedToy, course, new_toy_study, spawn_driver, toy_session

WEIGHTS = str(DIGITS.with_name("small_cnn.safetensors"))
TRAINED = {
    "name": "trained",
    "model": {"name": "small_cnn", "weights": WEIGHTS},
    "data": {"name": "digits", "validation_size": 400, "calibration_size": 256},
    "budget": "macs <= 40%",
    "agent": "random",
    "baselines": [],
    "trials": 6,
}
TRAINING = {"epochs": 4, "batch_size": 64, "learning_rate": 0.02, "precision": "float32", "channels_last": True}


def study(scheduler: object, **training: object) -> StudyConfig:
    evaluation = {"training": {**TRAINING, **training}, "scheduler": scheduler}
    return StudyConfig.from_dict({**TRAINED, "evaluation": evaluation}, folder=DIGITS.parent)


def runner(workers: int, epochs: int, **options):
    from automl.runners.ray_tune import RayTuneRunner, Schedule

    return RayTuneRunner(workers, threads=1, schedule=Schedule(SchedulerOptions(**options), GOAL, epochs))


def steps(record: TrialRecord) -> list[int]:
    return [m.step for m in record.measurements if m.metric == "accuracy"]


@pytest.fixture
def toy(tmp_path):
    """A problem, the store, a study in it."""
    problem = toy_problem()
    with open_store(tmp_path / "study.db") as store:
        yield problem, store, new_study(store, problem)


@pytest.mark.slow
def test_asha_ends_poor_trials_early_and_lets_the_good_ones_go_on(ray_cluster, toy):
    problem, store, record = toy
    n, epochs = 12, 8
    runner(2, epochs, name="asha", reduction=2.0).run(
        new_session(store, record, problem, trials=n), TrainedToy(problem, epochs)
    )
    trials = store.trials(record.id)
    assert [trial.point for trial in trials] == proposals(problem, n)
    worth = {trial.number: problem(trial.point) for trial in trials}
    ended = [trial for trial in trials if trial.state is TrialState.STOPPED]
    done = [trial for trial in trials if trial.state is TrialState.DONE]
    assert len(ended) + len(done) == n and len(ended) >= n // 4
    for trial in trials:
        assert steps(trial) == list(range(1, len(steps(trial)) + 1))
        assert trial.values["accuracy"] == pytest.approx(worth[trial.number] * (1 - 0.5 ** steps(trial)[-1]))
        assert sum(m.metric == "macs" for m in trial.measurements) == 1 and trial.wall_s > 0
    for trial in ended:
        assert steps(trial)[-1] in (1, 2, 4)
        assert trial.reason == f"stopped by asha after {steps(trial)[-1]} of 8 epochs"
    assert all(steps(trial)[-1] == epochs for trial in done)
    # The curves never cross, so that the best is never below a quantile, nor the worst of all the only one done.
    assert max(worth, key=worth.get) in {trial.number for trial in done}
    assert np.mean([worth[t.number] for t in ended]) < np.mean([worth[t.number] for t in done])


@pytest.mark.slow
def test_the_median_rule_ends_what_is_worse_than_most(ray_cluster, toy):
    problem, store, record = toy
    runner(1, 4, name="median", min_trials=2).run(new_session(store, record, problem, trials=7), TrainedToy(problem, 4))
    trials = store.trials(record.id)
    assert [trial.state for trial in trials[:2]] == [TrialState.DONE] * 2, "there is no median yet"
    ended = [trial for trial in trials if trial.state is TrialState.STOPPED]
    assert ended and {trial.reason for trial in ended} == {"stopped by median after 1 of 4 epochs"}
    for trial in trials[2:]:  # at the first epoch, of trials one after the other
        median = np.median([problem(other.point) for other in trials[: trial.number]])
        assert (trial.state is TrialState.STOPPED) == (problem(trial.point) < median)


@pytest.mark.slow
def test_hyperband_halves_its_brackets_and_ends_with_all_trials_closed(ray_cluster, toy):
    problem, store, record = toy
    session = new_session(store, record, problem, trials=10)
    runner(1, 4, name="hyperband", reduction=2.0).run(session, TrainedToy(problem, 4))
    assert session.done
    trials = store.trials(record.id)
    # Li et al. 2018, algorithm 1 with R = 4 and eta = 2: brackets of 4, 3 and 3 trials, from 1, 2 and 4 epochs on.
    expected = dict.fromkeys(range(10), 4)
    for bracket, ends in (([0, 1, 2, 3], [1, 1, 2]), ([4, 5, 6], [2])):
        poor = sorted(bracket, key=lambda number: problem(trials[number].point))
        expected.update(zip(poor, ends, strict=False))
    assert {trial.number: steps(trial)[-1] for trial in trials} == expected
    for trial in trials:
        assert steps(trial) == list(range(1, expected[trial.number] + 1))
        ended = expected[trial.number] < 4
        assert trial.state is (TrialState.STOPPED if ended else TrialState.DONE)
        assert trial.reason == (f"stopped by hyperband after {expected[trial.number]} of 4 epochs" if ended else None)


def test_hyperband_is_refused_where_a_paused_trial_could_not_be_found_again(ray_cluster, monkeypatch):
    from automl.runners import ray_cluster as module

    module.require_one_machine()
    nodes = [{"Alive": True, "NodeManagerAddress": address} for address in ("10.0.0.1", "10.0.0.2", "10.0.0.2")]
    monkeypatch.setattr(module.ray, "nodes", lambda: nodes)
    with pytest.raises(StudyError, match=r"hyperband pauses trials, .* this Ray cluster has 2: set .* asha or median"):
        module.require_one_machine()


@pytest.mark.slow
def test_a_study_killed_with_minus_nine_goes_on_as_if_it_had_not_been(ray_cluster, tmp_path):
    problem, n, epochs = toy_problem(), 14, 8
    with open_store(tmp_path / "through.db") as store:
        record = new_toy_study(store)
        runner(1, epochs, name="asha", reduction=2.0).run(toy_session(store, record, n), TrainedToy(problem, epochs))
        through = course(store, record)
    assert {state.value for *_, state, _ in through} == {"done", "stopped"}
    url = f"sqlite:///{tmp_path}/study.db"
    with open_store(url) as store:
        record = new_toy_study(store)
        driver = spawn_driver(url, "--workers", 1, "--trials", n, "--wait-s", 0.05, "--asha", epochs, cwd=tmp_path)
        try:
            for _ in range(7):  # "begins", and six trials
                assert driver.stdout.readline()
        finally:
            os.killpg(driver.pid, signal.SIGKILL)
            driver.wait()
        before = [trial for trial in store.trials(record.id) if trial.state.finished]
        assert 6 <= len(before) < n
        with store.drive(record.id):
            session = toy_session(store, record, n)
            runner(1, epochs, name="asha", reduction=2.0).run(session, TrainedToy(problem, epochs))
        assert course(store, record) == through
        assert [trial for trial in store.trials(record.id) if trial.id in {t.id for t in before}] == before


def test_a_trial_measured_epoch_by_epoch_is_the_trial(tmp_path):
    setup = Setup(study({"name": "asha"}, ema=0.9))
    point, checkpoint = setup.space.project(np.full(len(setup.space.knobs), 0.5), setup.limits), tmp_path / "checkpoint"
    whole = setup.evaluator(point)
    assert whole.state is TrialState.DONE
    parts = [setup.evaluator.after(point, epoch, checkpoint) for epoch in (1, 2, 3, 4)]
    assert [part.state.value for part in parts] == ["stopped"] * 3 + ["done"]
    assert parts[1].reason == "after 2 of 4 epochs"
    assert parts[3].values == whole.values
    assert len({part.values["loss"] for part in parts}) == 4
    assert all(m.step == (0 if m.metric in setup.space.metrics else 2) for m in parts[1].measurements)
    over = setup.evaluator.after(setup.space.point([k.levels[-2] for k in setup.space.knobs]), 1, tmp_path / "other")
    assert over.state is TrialState.INFEASIBLE, "no match for others: it is trained at once"
    assert {m.step for m in over.measurements if m.metric == "accuracy"} == {4}


@pytest.mark.slow
def test_a_study_that_trains_its_trials_is_run_by_its_scheduler(ray_cluster, tmp_path):
    with open_store(tmp_path / "study.db") as store:
        ran = Study(store, study({"name": "asha", "reduction": 2}))
        assert ran.config.runner.workers == 1
        ran.run()
        trials = store.trials(ran.record.id, agent="random")
        assert StudyConfig.from_record(ran.record.config) == ran.config
    assert {trial.state for trial in trials} == {TrialState.DONE, TrialState.STOPPED}
    assert all(steps(trial) for trial in trials)
    assert {steps(trial)[-1] for trial in trials if trial.state is TrialState.DONE} == {4}


@pytest.mark.parametrize(
    ("scheduler", "epochs", "said"),
    [
        ({"name": "pbt"}, 8, "evaluation.scheduler.name: expected one of asha, hyperband, median, got 'pbt'"),
        ({"name": "asha", "grace": 2}, 8, "evaluation.scheduler.grace: unknown key"),
        ({"name": "asha", "min_trials": 2}, 8, "min_trials is no option of asha: leave it out"),
        ({"name": "asha", "grace_epochs": 0}, 8, "grace_epochs must be at least 1, got 0"),
        ({"name": "asha", "reduction": 1}, 8, "reduction must be above 1, got 1"),
        ({"name": "asha", "grace_epochs": 8}, 8, "asha would end no trial early: .* first after 8 of 8 epochs"),
        ({"name": "asha", "brackets": 3, "reduction": 3}, 9, "brackets 3 it looks first after 9 of 9 epochs"),
        ({"name": "median", "grace_epochs": 5}, 4, "median would end no trial early"),
        ({"name": "hyperband"}, 2, "hyperband would end no trial early: with reduction 3"),
    ],
)
def test_a_scheduler_that_cannot_be_is_one_clear_error(scheduler, epochs, said):
    with pytest.raises(ConfigError, match=said):
        study(scheduler, epochs=epochs)


def test_trials_that_are_not_trained_have_no_scheduler():
    with pytest.raises(ConfigError, match=r"evaluation: a scheduler ends the training of trials, .* by their `race`"):
        StudyConfig.from_dict({**TRAINED, "evaluation": {"scheduler": {"name": "asha"}}})


def test_trials_that_a_scheduler_may_end_run_no_race():
    assert not study({"name": "median"}).evaluation.races
    assert Path(WEIGHTS).exists()
