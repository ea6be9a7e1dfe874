"""Studies of whole architectures: made from nothing, trained in each trial, recorded and exported like any."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from agents import TrialState
from automl.config.study import StudyConfig
from automl.errors import ConfigError, DataError
from automl.evaluation.training_time import TrainingTime, features, found_from
from automl.export import export, load
from automl.measures.counts import count_params
from automl.report.html.report_page import write_page
from automl.report.inspection import inspection
from automl.store import open_store
from automl.study.conclude import conclude, manifest
from automl.study.finishing import reported_network
from automl.study.study import Study
from automl.tasks.sample_form import SampleForm
from search_spaces import InfeasibleBudgetError, network_of
from search_spaces.cells.architecture import Architecture, Frame, Stage

CELLS = {"cells": {"kinds": ["plain", "separable"], "widths": [4, 8], "depths": [1, 2], "stages": 2}}
SETTINGS = {
    "name": "made",
    "data": {"name": "digits", "validation_size": 200, "calibration_size": 64},
    "space": CELLS,
    "budget": ["params <= 2k", "macs <= 60%"],
    "trials": 2,
    "baselines": ["uniform", "random"],
    "evaluation": {"training": {"epochs": 1, "samples": 256, "precision": "float32", "channels_last": False}},
    "finish": {"finalists": 1, "training": {"epochs": 2, "precision": "float32", "channels_last": False}},
    "runner": {"threads": 1},
}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A study that was interrupted after the reference, and gone on with from the record alone."""
    with open_store(tmp_path_factory.mktemp("cells") / "study.db") as store:
        config = StudyConfig.from_dict(SETTINGS)
        study = Study(store, config)
        with study.drive(), pytest.raises(KeyboardInterrupt):
            study.run(_Interrupting())
        assert [trial.agent for trial in store.trials(study.record.id)] == ["base"]
        study = Study(store, StudyConfig.from_record(store.study("made").config))
        with study.drive():
            study.run()
            results = conclude(study)
        yield study, results


class _Interrupting:
    """An observer that ends the run with its first trial."""

    def __call__(self, record):
        raise KeyboardInterrupt

    def plan(self, sessions, limits):
        pass

    def say(self, text):
        pass


def test_the_reference_takes_the_place_of_the_original(done):
    study, results = done
    base, uniform = results.rows[0].best[0], results.rows[1].best[0]
    space, limits = study.setup.space, study.setup.limits
    assert base.point == space.reference(limits) == uniform.point
    assert uniform.repeat_of == base.id
    assert limits == {"params": 2000, "macs": 0.6 * space.cost(space.original_point, "macs")}
    assert base.point["stage0:kind"] == 0
    assert "final" not in {m.phase for m in base.measurements if m.metric == "divergence"}


def test_the_winner_is_trained_counted_and_within_the_budget(done):
    study, results = done
    assert count_params(results.network) <= 2000
    assert {rule.metric: rule.value <= rule.bound for rule in _rules(study)} == {"params": True, "macs": True}
    assert any(artifact.kind == "trained weights" for artifact in study.store.artifacts(study.record.id))
    again = reported_network(study, results.winner.point)
    x = study.setup.problem.example_inputs[0]
    assert torch.equal(again(x), results.network(x))


def _rules(study):
    from automl.store import conclusion

    return conclusion(study.store, study.record.id).rules


def test_it_is_exported_and_loaded_without_an_original(done, tmp_path):
    study, results = done
    inputs = study.setup.problem.example_inputs
    export(results.network, inputs, results.plan, tmp_path, ["safetensors"], manifest=manifest(study, results.winner))
    assert torch.equal(load(tmp_path)(*inputs), results.network(*inputs))


def test_a_trial_gives_the_same_again_and_what_was_not_finished_can_be_had(done):
    study, _ = done
    trials = [t for t in study.store.trials(study.record.id, agent="random", seed=0) if t.state is TrialState.DONE]
    outcome = study.evaluator(trials[0].point)
    accuracy = next(m.value for m in outcome.measurements if m.metric == "accuracy")
    assert accuracy == trials[0].values["accuracy"]
    first = next(t for t in trials if "accuracy" not in t.values_of("final"))
    trained = study.evaluator.measure(reported_network(study, first.point), study.setup.problem.validation)
    assert next(m.value for m in trained if m.metric == "accuracy") == first.values["accuracy"]


def test_it_goes_to_a_worker_and_is_inspected(done):
    study, results = done
    worker = pickle.loads(pickle.dumps(study.evaluator))
    assert torch.equal(_outputs(worker, results.winner.point), _outputs(study.evaluator, results.winner.point))
    text = "\n".join(inspection(study.setup))
    assert "stage0:kind" in text and "plain, separable" in text and "training" in text


def _outputs(evaluator, point):
    return evaluator.network(point)(*evaluator.problem.example_inputs)


def test_a_page_speaks_of_the_reference(done, tmp_path):
    study, _ = done
    page = write_page(study.store, "made", tmp_path / "page.html").read_text()
    assert "made by hand" in page and "; the reference has" in page and "the original" not in page


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "small_cnn"}, "leave the model out"),
        ({"evaluation": {}}, "worth nothing until they are trained"),
        ({"evaluation": {"training": {"distillation": {}}}}, "has not: leave it out"),
        ({"budget": "latency <= 3 ms"}, "no latency is predicted"),
        ({"budget": "bops <= 50%"}, "limit macs"),
        ({"objective": "divergence"}, "compares with an original network"),
        ({"finish": {"reconstruction": "blockwise"}}, "imitates an original"),
        ({"space": ["cells", "channels"]}, "Search cells first"),
        ({"space": {"cells": {"kinds": ["residul"]}}}, "some of plain, residual"),
        ({"space": {"cells": {"kernels": [2]}}}, "odd numbers"),
        ({"space": "channels", "model": "small_cnn", "evaluation": {"training": {"seconds": 3}}}, "of cells only"),
        ({"seconds": 0}, "above 0"),
        ({"agent": "amc"}, "kinds of block have none"),
        ({"baselines": ["uniform", "exact"]}, "some of uniform"),
        ({"evaluation": {"training": {"seconds": 3}, "scheduler": "asha"}}, "its own number"),
    ],
)
def test_what_does_not_fit_is_refused(change, words):
    with pytest.raises(ConfigError, match=words):
        StudyConfig.from_dict({**SETTINGS, **change})


def test_a_model_is_missing_only_where_one_is_needed():
    given = {key: value for key, value in SETTINGS.items() if key not in ("space", "evaluation", "finish")}
    with pytest.raises(ConfigError, match="model: is missing"):
        StudyConfig.from_dict(given)
    config = StudyConfig.from_dict(SETTINGS)
    assert config.agent.name == "predictor"
    assert config.evaluation.training.learning_rate == 0.1
    assert StudyConfig.from_record(config.to_record()) == StudyConfig.from_dict({**SETTINGS, "data": config.data})


def test_a_budget_that_no_network_keeps_is_refused(tmp_path):
    with open_store(tmp_path / "s.db") as store, pytest.raises(InfeasibleBudgetError, match="params <= 10"):
        Study(store, StudyConfig.from_dict({**SETTINGS, "budget": "params <= 10"}))


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (torch.zeros(2, 1, 8, 8, 8), torch.tensor([0, 1]), "made for images"),
        (torch.zeros(2, 1, 8, 8), torch.tensor([0.5, 1.0]), "if each image has one number"),
        (torch.zeros(2, 3), torch.tensor([[0], [1]]), "one label a sample"),
        (torch.full((2, 3), float("nan")), torch.tensor([0, 1]), "finite numbers"),
        (torch.zeros(2, 1, 8, 8), torch.tensor([0, 0]), "one class only"),
    ],
)
def test_data_that_no_network_can_be_made_for(images, labels, words):
    with pytest.raises(DataError, match=words):
        SampleForm.of(images, labels)


def test_what_is_odd_about_data_is_said():
    told = SampleForm(1, (8, 8), (500, 5, 0)).cautions
    assert len(told) == 3 and "class 2" in told[0] and "class 1" in told[1] and "uneven" in told[2]
    assert SampleForm(1, (8, 8), (50, 60)).cautions == []


def test_features_of_a_network_are_its_own():
    stages = Stage("separable", 8), Stage("separable", 8, reduce="stride")
    network = network_of(Architecture(Frame(1, (8, 8), 10), 4, stages)).eval()
    found = features(network, [torch.zeros(2, 1, 8, 8)], 32)
    dense = 4 * 9 * 64 + 4 * 8 * 64 + 8 * 8 * 16 + 8 * 10
    assert found[:3].tolist() == [dense, 4 * 9 * 64, 8 * 9 * 16]
    assert found[-1] == 1


def test_times_that_are_sums_are_found_again_and_seconds_become_epochs():
    rng = np.random.default_rng(0)
    rows = rng.random((8, 6)) * 100
    true = np.array([1e-3, 4e-3, 0, 2e-4, 1e-2, 0])
    predicted = found_from(rows, rows @ true, 1000)
    assert np.allclose(predicted.coefficients, true) and predicted.error < 1e-4
    assert TrainingTime.from_record(predicted.to_record()) == predicted
    options = StudyConfig.from_dict(
        {**SETTINGS, "evaluation": {"training": {"epochs": 9, "seconds": 10.0}}}
    ).evaluation.training
    some = predicted.within(options, 1e-3)
    assert (some.epochs, some.samples, some.seconds) == (9, None, None)
    slow = predicted.within(options, 4e-3)
    assert (slow.epochs, slow.samples) == (3, 834)
    slowest = predicted.within(options, 1.0)
    assert (slowest.epochs, slowest.samples) == (1, options.batch_size)
