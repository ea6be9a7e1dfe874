"""Drivers killed and servers restarted at random moments: nothing that finished is lost or doubled.

The seed is random, and printed when the test fails; AUTOML_CHAOS_SEED sets it, AUTOML_CHAOS_ROUNDS makes it longer. No
statistics are involved: what is asserted holds for every seed.
"""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

import agents
from agents import TrialState
from automl.lanes.session import Session
from automl.runners import SerialRunner
from automl.store import LiveProjection, OptunaProjection, open_store
from tests.kits.postgres import restart
from tests.kits.runners import GOAL, ToyEvaluator, new_study
from tests.kits.stores import PROCESSES
from tests.kits.toy_space import toy_problem

ROUNDS = int(os.environ.get("AUTOML_CHAOS_ROUNDS", "5"))
TRIALS = 15 * ROUNDS
SEED = int(os.environ.get("AUTOML_CHAOS_SEED", random.SystemRandom().randrange(10**6)))


def search(store, observers=()) -> None:
    """Run what is left of the study by an agent whose every step depends on all before."""
    problem, study = toy_problem(), store.study("toy")
    with store.drive(study.id):
        agent = agents.create(
            "nsga2", space=problem.space, goal=GOAL, limits=problem.limits, seed=0, trials=TRIALS, population=8
        )
        session = Session(store, study, "nsga2", 0, agent, TRIALS, goal=GOAL, observers=observers)
        SerialRunner().run(session, ToyEvaluator(problem, wait_s=0.01))


def told(trial) -> tuple:
    """All that is known of a finished trial and must never change."""
    return trial.id, trial.number, trial.finish_order, trial.point.key, trial.values["accuracy"], trial.finished


def _search(url: str, told_of) -> None:
    with open_store(url) as store:
        projection = LiveProjection(OptunaProjection.of(store, store.study("toy")))
        told_of.send("begins")
        search(store, [projection.record, lambda trial: told_of.send(told(trial))])
        projection.close()
    told_of.send("ends")


def course(store) -> list[tuple]:
    trials = store.trials(store.study("toy").id)
    return [(t.number, t.finish_order, t.point, t.state, t.values["accuracy"]) for t in trials]


def received(connection) -> list:
    """What came from a process until it died."""
    found = []
    try:
        while connection.poll(0.2):
            found.append(connection.recv())
    except EOFError:
        pass
    return found


@pytest.fixture(scope="module")
def through(tmp_path_factory) -> list[tuple]:
    """The course of a study that ran through."""
    with open_store(tmp_path_factory.mktemp("through") / "study.db") as store:
        new_study(store, toy_problem())
        search(store)
        return course(store)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_nothing_is_lost_or_doubled_whatever_dies(through, kind, request):
    url = request.getfixturevalue(f"{kind}_url")
    rng = random.Random(f"{SEED} {kind}")
    print(f"AUTOML_CHAOS_SEED={SEED} AUTOML_CHAOS_ROUNDS={ROUNDS}")
    with open_store(url) as store:
        study = new_study(store, toy_problem())
        acknowledged: dict[int, tuple] = {}
        killed = 0
        for round_number in range(1000):
            receive, send = PROCESSES.Pipe(duplex=False)
            process = PROCESSES.Process(target=_search, args=(url, send))
            process.start()
            send.close()
            assert receive.poll(60) and receive.recv() == "begins"
            if round_number < ROUNDS:
                time.sleep(rng.uniform(0.0, 0.4))
                if kind == "postgres" and (round_number == 0 or rng.random() < 0.5):
                    restart(request.getfixturevalue("postgres"), rng.uniform(0.0, 0.3))
                    time.sleep(rng.uniform(0.0, 0.4))
                if process.is_alive():
                    killed += 1
                    os.kill(process.pid, signal.SIGKILL)  # and not waited for before the next one starts
                messages = received(receive)
            else:
                process.join(120)
                messages = received(receive)
                assert messages[-1] == "ends"
            for trial in (message for message in messages if message != "ends"):
                assert acknowledged.setdefault(trial[0], trial) == trial, "finished twice"
            trials = {t.id: t for t in store.trials(study.id)}
            finished = [t for t in trials.values() if t.state.finished]
            assert len(trials) - len(finished) <= 1, "one worker has one trial in flight"
            for key, before in acknowledged.items():
                assert told(trials[key]) == before, "a finished trial is lost or changed"
            process.join()
            if messages and messages[-1] == "ends":
                break
        assert [order for _, order, *_ in sorted(course(store), key=lambda row: row[1])] == list(range(1, TRIALS + 1))
        assert course(store) == through
        ended = store.attempts(study.id)
        assert sum(t.attempts - 1 for t in trials.values()) == len(ended) <= killed
        assert {a.reason for a in ended} <= {"the process that ran it ended"}
        assert {t.state for t in trials.values()} == {TrialState.DONE}
        projection = OptunaProjection.of(store, study)
        projection.sync(strict=True)
        shown = [t.user_attrs["number"] for t in projection._lane("nsga2", 0).get_trials(deepcopy=False)]
        projection.close()
        assert len(shown) == len(set(shown)) >= TRIALS - killed, "each dead copier may hold one trial for two minutes"
        assert killed >= 1, "15 trials a round, of at least 10 ms each, take longer than the first round"
