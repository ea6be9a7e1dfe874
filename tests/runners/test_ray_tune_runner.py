"""The Ray Tune sweep passes the conformance kit, is silent, cleans up, and shares the cores."""

from __future__ import annotations

import signal
import tempfile
from collections import Counter

import pytest

from automl.errors import StudyError
from automl.store import open_store
from automl.testing.toy_space import toy_problem
from tests.kits.runners import (
    Fragile,
    RunnerConformance,
    TellsProcess,
    Unloadable,
    new_session,
    new_study,
    proposals,
)

pytestmark = pytest.mark.slow


@pytest.fixture
def make_runner(ray_cluster):
    """The runner's class, in whose module alone Ray is imported."""
    from automl.runners.ray_tune import RayTuneRunner

    return RayTuneRunner


class TestRayTuneRunner(RunnerConformance):
    isolated = True

    @pytest.fixture
    def runner(self, make_runner):
        return make_runner(2, threads=1)


def test_every_worker_works_with_its_threads_and_they_say_nothing_and_leave_nothing(
    make_runner, tmp_path, capfd, monkeypatch
):
    (tmp_path / "temp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))
    on_ctrl_c = signal.getsignal(signal.SIGINT)
    problem = toy_problem()
    with open_store(tmp_path / "study.db") as store:
        session = new_session(store, new_study(store, problem), problem, trials=24)
        make_runner(2, threads=3).run(session, TellsProcess())
        assert session.done and {record.values["threads"] for record in session.finished} == {3.0}
        processes = Counter(record.values["process"] for record in session.finished)
    # Trials are far shorter than the start of a process. One of the two may be there some seconds before the other.
    assert len(processes) == 2 and min(processes.values()) >= 2, "none is started anew"
    assert signal.getsignal(signal.SIGINT) is on_ctrl_c
    assert capfd.readouterr() == ("", "")
    assert list((tmp_path / "temp").iterdir()) == []


def test_a_trial_that_takes_too_long_is_tried_again_and_the_others_go_on(make_runner, tmp_path):
    problem = toy_problem()
    points = proposals(problem, 4)
    with open_store(tmp_path / "study.db") as store:
        study = new_study(store, problem)
        session = new_session(store, study, problem, trials=4, max_attempts=2)
        # One worker, and room for three in the cluster: it is kept to one at a time, as in a serial run.
        make_runner(1, threads=1, timeout_s=2.0).run(session, Fragile(tmp_path, {points[1]: ("hangs", 1)}))
        assert [record.point for record in session.finished] == points
        assert [record.state.value for record in session.finished] == ["done"] * 4
        assert [record.attempts for record in session.finished] == [1, 2, 1, 1]
        assert [a.reason for a in store.attempts(study.id)] == ["timed out: no outcome within 2 s"]


def test_a_cluster_without_room_is_one_clear_error(make_runner, tmp_path):
    from automl.runners import ray_cluster

    with pytest.raises(StudyError, match=r"takes 1 CPUs and 0.5 GPUs, and no node .* has as many \(3 CPUs and 0 GPUs"):
        ray_cluster.require_room(1.0, 0.5)


def test_an_evaluator_that_workers_cannot_load_is_one_clear_error(make_runner, tmp_path):
    problem = toy_problem()
    with open_store(tmp_path / "study.db") as store:
        study = new_study(store, problem)
        with pytest.raises(StudyError, match=r"cannot load the evaluator.*models_of_mine"):
            make_runner(1).run(new_session(store, study, problem), Unloadable())
        assert {record.state.value for record in store.trials(study.id)} == {"running"}, "to be resumed, and no failure"
        assert store.attempts(study.id) == []
