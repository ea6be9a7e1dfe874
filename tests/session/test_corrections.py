"""Models of latency that are wrong, corrected in the course of a study by what its networks are found to take."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest

from agents import TrialState
from automl.config.latency import PREDICTED, LatencyOptions
from automl.config.study import StudyConfig
from automl.errors import BackendError
from automl.measures.backends.side_by_side import Comparison
from automl.measures.counts import count_macs
from automl.measures.latency import LatencyComparison
from automl.measures.latency_model import Curve, LatencyTable
from automl.store import Store, open_store
from automl.study import corrections, latency_cost
from automl.study.differences import completed, first_differences
from automl.study.rerun import rerun
from automl.study.study import Study
from automl.types import BASE, Phase
from tests.kits.studies import WEIGHTS_FILE

WHOLE_MS = 10.0
LIMIT = 0.5


def foretold(space, example_inputs, options, say):
    """A table by which a network takes the part of the original's time that its MACs are of the original's."""
    whole = space.cost_of_levels(space.highest, "macs")
    curves = []
    for place, knob in enumerate(space.knobs):
        rows = np.tile(space.highest, (len(knob.levels), 1))
        rows[:, place] = knob.levels
        curves.append(Curve(knob.name, knob.levels, tuple(space.cost_of_levels(row, "macs") / whole for row in rows)))
    return LatencyTable(WHOLE_MS, 0.01, tuple(curves), 0.0, 10, "a processor", options)


class Machine:
    """A machine on which every network but the original takes `factor` times what its MACs say."""

    def __init__(self, factor: float):
        self.factor, self.timed = factor, 0

    def __call__(self, problem, config, effort):
        def compare(networks):
            macs = {name: count_macs(network, problem.example_inputs) for name, network in networks.items()}
            original = next(iter(macs))
            self.timed += len(networks) - 1
            parts = {n: m / macs[original] * (1 if n == original else self.factor) for n, m in macs.items()}
            rounds = {name: np.full(20, WHOLE_MS * part) for name, part in parts.items()}
            return LatencyComparison(Comparison(rounds), "a processor")

        return compare


def taken(study: Study, record, factor: float) -> float:
    """The part of the original's time that a trial's network takes in truth."""
    space = study.setup.given_space
    return factor * space.cost(record.point, "macs") / space.original_cost("macs")


def config(trials: int = 16, **changed) -> StudyConfig:
    told = {
        "name": "corrected",
        "model": {"name": "small_cnn", "weights": WEIGHTS_FILE},
        "data": {"name": "digits", "validation_size": 100, "calibration_size": 100, "batch_size": 50},
        "space": {"channels": {}},
        "budget": f"latency <= {LIMIT:.0%} on eager",
        "objective": "divergence",
        "agent": "evolution",
        "baselines": ["uniform", "random"],
        "trials": trials,
        "runner": {"threads": 1},
    }
    return StudyConfig.from_dict({**told, **changed})


@pytest.fixture
def machine(monkeypatch) -> Machine:
    made = Machine(1.25)
    monkeypatch.setattr(latency_cost, "measure_latency_table", foretold)
    monkeypatch.setattr(corrections, "comparer", made)
    return made


@pytest.fixture
def store(tmp_path) -> Iterator[Store]:
    with open_store(tmp_path / "study.db") as store:
        yield store


def searched(study: Study) -> dict[tuple[str, int], object]:
    """Agent and number -> trial."""
    trials = study.store.trials(study.record.id)
    return {(trial.agent, trial.number): trial for trial in trials if trial.agent != BASE}


def scales(study: Study) -> dict[int, float]:
    told = [m for m in study.base().measurements if (m.phase, m.metric) == (Phase.CORRECTION, corrections.SCALE)]
    return {m.step: m.value for m in told}


@pytest.mark.parametrize("factor", [1.25, 0.6])
def test_the_second_half_of_a_search_meets_the_limit_as_it_is(machine, store, factor):
    """Of a table that promises too much and of one that wastes the budget."""
    machine.factor = factor
    study = Study(store, config())
    study.run()
    assert sorted(scales(study)) == [4, 8] and machine.timed > 0
    trials = searched(study)
    first = [taken(study, trials["random", number], factor) for number in range(4)]
    last = [taken(study, trials["random", number], factor) for number in range(8, 16)]
    # A table adds what groups save, and so is off by a few percent of its own beside the factor.
    assert np.median(np.abs(np.array(first) / LIMIT - 1)) > 0.15 > 0.1 > np.median(np.abs(np.array(last) / LIMIT - 1))
    assert all(trial.values[PREDICTED] <= study.setup.limits[PREDICTED] for trial in trials.values())
    assert abs(taken(study, trials["uniform", 0], factor) / LIMIT - 1) < 0.1, "it waits for the last correction"
    if factor > 1:
        chosen = [trial for trial in study.finalists() if trial.agent != BASE]
        assert chosen and all(study.corrections.keeps(trial.point) for trial in chosen)
    assert rerun(study, trials["random", 0]).verdict == "the same"
    assert rerun(study, trials["random", 15]).verdict == "the same"


def test_a_study_that_is_killed_goes_on_to_the_same_trials(machine, tmp_path):
    """Before, at and after the corrections, on the machine of then."""

    class KilledError(Exception):
        """In place of a kill, after a trial is on record."""

    def until(limit: int):
        class Stop:
            goal, left = None, limit

            def plan(self, *told):
                """Of no interest."""

            def __call__(self, record):
                self.left -= 1
                if self.left == 0:
                    raise KilledError

            def say(self, text):
                """Of no interest."""

        return Stop()

    with open_store(tmp_path / "whole.db") as store:
        whole = Study(store, config(8))
        whole.run()
        wanted = {key: trial.point for key, trial in searched(whole).items()}
        first = scales(whole)
    assert list(first) == [4]
    with open_store(tmp_path / "killed.db") as store:
        for after in (3, 7, 100):
            machine.factor *= 1.0 if not scales_of(store) else 3.0  # what is on record is not measured again
            with pytest.raises(KilledError) if after < 100 else open_store(tmp_path / "other.db"):
                Study(store, config(8)).run(until(after))
        study = Study(store, config(8))
        assert {key: trial.point for key, trial in searched(study).items()} == wanted and scales(study) == first


def scales_of(store: Store) -> bool:
    """Whether anything has been corrected in the database."""
    return any(
        measured.phase == Phase.CORRECTION
        for study in store.studies()
        for trial in store.trials(study.id)
        for measured in trial.measurements
    )


def test_what_leaves_no_network_corrects_nothing(machine, store):
    machine.factor = 60.0
    said: list[str] = []
    study = Study(store, config(8, baselines=[]), say=said.append)
    study.run()
    assert scales(study) == {4: 1.0} and any("stays as it is" in line for line in said)
    assert all(trial.state is not TrialState.FAILED for trial in searched(study).values())


def test_agents_of_one_trial_propose_for_the_limit_as_it_is(machine, store):
    """Where there are no others, what they would propose is timed first, once."""
    study = Study(store, config(agent="uniform", baselines=[]))
    study.run()
    assert list(scales(study)) == [0] and machine.timed == 2
    assert 0.9 < taken(study, searched(study)["uniform", 0], machine.factor) / LIMIT < 1.1
    assert "before any trial" in study.corrections.told
    Study(store, config(agent="uniform", baselines=[])).run()
    assert machine.timed == 2


def test_what_a_backend_cannot_load_corrects_nothing(machine, store, monkeypatch):
    def refuse(networks):
        raise BackendError("it cannot load model.onnx")

    monkeypatch.setattr(corrections, "comparer", lambda *_: refuse)
    said: list[str] = []
    study = Study(store, config(8, baselines=[]), say=said.append)
    study.run()
    assert scales(study) == {4: 1.0} and "the model of latency stays as it is: it cannot load model.onnx" in said


def test_none_is_asked_for(machine, store):
    study = Study(store, config(latency={"corrections": 0}, baselines=[], trials=8))
    study.run()
    assert not scales(study) and machine.timed == 0


def test_a_study_of_an_earlier_version_goes_on(machine, store):
    study = Study(store, config(8))
    earlier = dict(study.record.config)
    table = dict(earlier["latency_table"])
    table["options"] = {key: value for key, value in table["options"].items() if key != "corrections"}
    found = dataclasses.replace(study.record, config={**earlier, "latency_table": table})
    assert first_differences(completed(found), study.setup.to_record()) == []
    assert LatencyOptions(**table["options"]) == LatencyOptions()
