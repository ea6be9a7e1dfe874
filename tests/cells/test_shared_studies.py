"""Studies whose trials share weights: trained once, checked, trusted or not, resumed, used for another budget."""

from __future__ import annotations

import pickle

import pytest
import torch

import automl
from automl.config.study import StudyConfig
from automl.data import load
from automl.errors import ConfigError, StudyError
from automl.report.foretelling import foretell
from automl.report.html.report_page import write_page
from automl.report.table import summary
from automl.store import open_store
from automl.study.again import again
from automl.study.conclude import conclude
from automl.study.finishing import reported_network
from automl.study.rank_check import TRUSTED, Verdict, rank_correlation, window
from automl.study.rerun import rerun
from automl.study.selection import Recorded
from automl.study.setup import Setup
from automl.study.sharing_study import SUPERNET
from automl.study.study import Study
from automl.types import BASE, CHECK, Phase
from search_spaces import Frame, pyramid
from search_spaces.cells.cells_options import CellsOptions

FORM = {"precision": "float32", "channels_last": False}
SETTINGS = {
    "name": "shared",
    "data": {"name": "digits", "validation_size": 200, "calibration_size": 64},
    "space": {"cells": {"kinds": ["plain", "separable"], "widths": [4, 8], "depths": [1, 2], "stages": 2}},
    "budget": ["params <= 2k"],
    "trials": 3,
    "baselines": ["random"],
    "evaluation": {
        "training": {"epochs": 1, "samples": 256, **FORM},
        "supernet": {"training": {"epochs": 2, "batch_size": 64, **FORM}, "check": 5, "recalibration": 200},
    },
    "finish": {"finalists": 1, "training": {"epochs": 1, **FORM}},
    "runner": {"threads": 1},
}


def settings(**supernet):
    evaluation = SETTINGS["evaluation"]
    return {**SETTINGS, "evaluation": {**evaluation, "supernet": {**evaluation["supernet"], **supernet}}}


def batches():
    """The digits as they are in memory: for training, and to judge by."""
    splits = load("digits", validation_size=200, calibration_size=64)
    return list(splits.training(0, 64)), splits.validation


class _Interrupting:
    """A `Progress` that ends the run with trial `last` of those that it hears of."""

    def __init__(self, last):
        self.left = last

    def __call__(self, record):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt

    def plan(self, sessions, limits):
        """Nothing is planned."""


def run(store, config, say=lambda text: None):
    study = Study(store, config, say=say)
    with study.drive():
        study.run()
        return study, conclude(study)


@pytest.mark.parametrize("least", [-2.0, 2.0], ids=["trusted", "not trusted"])
def test_a_study_judges_by_shared_weights_where_they_rank_as_training_does(least, tmp_path, monkeypatch):
    monkeypatch.setattr("automl.study.rank_check.TRUSTED", least)
    said = []
    with open_store(tmp_path / "study.db") as store:
        config = StudyConfig.from_dict(settings())

        def killed(text):
            said.append(text)
            if "epoch 1 of 2" in text:
                raise KeyboardInterrupt

        for say, progress in ((killed, None), (said.append, _Interrupting(2))):  # of the check the second network
            study = Study(store, config, say=say)
            with study.drive(), pytest.raises(KeyboardInterrupt):
                study.run(progress)
        study, results = run(store, StudyConfig.from_record(store.study("shared").config), said.append)
        assert sum("epoch 1 of 2" in line for line in said) == 1 == sum("epoch 2 of 2" in line for line in said)
        trials = store.trials(study.record.id)
        checked = [t for t in trials if t.agent == CHECK]
        alone = study.setup.evaluator
        assert len(checked) == 5
        for trial in checked:
            assert {"accuracy", "seconds"} == trial.values_of(Phase.SUPERNET).keys()
        (told,) = [line for line in said if "rank correlation" in line]
        assert told == study.shared.told and told in results.notes and ("not trusted" in told) == (least > 1)
        assert study.shares == (least < 1)
        judge = study.shared.evaluator if study.shares else alone
        for trial in [t for t in trials if t.agent in ("random", "predictor")]:
            assert judge(trial.point).values["accuracy"] == trial.values["accuracy"]
            assert study.judge_of(trial.agent) is judge
        assert rerun(study, next(t for t in trials if t.agent == "random")).verdict == "the same"
        assert rerun(study, checked[0]).verdict == "the same"
        base = study.base().values_of(Phase.SUPERNET)
        assert base["seconds"] > 0 and -1 <= base["rank_correlation"] <= 1
        assert [row.agent for row in results.rows] == [BASE, CHECK, "random", "predictor"]
        assert all("accuracy" in row.best[0].values_of(Phase.FINAL) for row in results.rows)
        page = write_page(store, "shared", tmp_path / "page.html").read_text()
        assert "rank correlation" in page and told in summary(Recorded.read(store, study.record))

        copied = again(store, "shared", {"finalists": 2}, "finished")
        said.clear()
        finished, _ = run(store, copied, said.append)
        assert finished.shared.told == told and not any("rank correlation" in line for line in said)
        assert len(store.trials(finished.record.id)) == len(trials)


def test_shared_weights_travel_to_the_workers_of_a_sweep(tmp_path):
    with open_store(tmp_path / "study.db") as store:
        study = Study(store, StudyConfig.from_dict(settings(check=0)))
        study.shared.make()
        judge = study.judge_of("random")
        point = study.setup.reference
        expected = judge(point).values
        assert pickle.loads(pickle.dumps(judge))(point).values == expected
        assert Study(store, StudyConfig.from_dict(settings(check=0))).judge_of("random")(point).values == expected


def test_another_budget_takes_its_networks_from_the_same_supernet_and_trains_nothing(tmp_path):
    with open_store(tmp_path / "study.db") as store:
        study, results = run(store, StudyConfig.from_dict(settings(check=0, inherit=True, smaller=True)))
        (artifact,) = [a for a in store.artifacts(study.record.id) if a.kind == SUPERNET]
        assert study.training is None and "not checked" in study.shared.told
        assert results.winner.values_of(Phase.FINAL)["accuracy"] == pytest.approx(results.winner.values["accuracy"])
        assert not results.winner.values_of(Phase.TRAINING)
        x = torch.randn(3, 1, 8, 8)
        plain = study.shared.evaluator.network(results.winner.point)
        assert torch.equal(results.network(x), plain(x))

        said = []
        smaller = settings(check=0, inherit=True, file=artifact.path) | {"name": "smaller", "budget": "params <= 1k"}
        other, found = run(store, StudyConfig.from_dict(smaller), said.append)
        assert any("taking the supernet" in line for line in said)
        assert not any("training the weights" in line for line in said)
        assert found.winner.values["params"] <= 1000
        assert torch.equal(reported_network(other, found.winner.point)(x), found.network(x))

        assert found.rows[0].best[0].values["accuracy"] > 0
        network, *_ = automl.specialise(artifact.path, *batches(), ["params <= 1k"], trials=3, progress=False)
        assert network.measurements["params"].value <= 1000

        wider = {**smaller, "name": "wider", "space": {"cells": {"kinds": ["plain"], "widths": [4, 16], "stages": 2}}}
        with pytest.raises(StudyError, match="is of another space"):
            run(store, StudyConfig.from_dict(wider))


def test_what_sharing_takes_is_foretold():
    phases = {phase.name: phase for phase in foretell(Setup(StudyConfig.from_dict(settings())))}
    assert list(phases) == ["preparation", "supernet", "check", "search", "finishing", "training"]
    assert phases["supernet"].all_s > 0 and phases["check"].all_s == pytest.approx(5 * phases["check"].each_s)


def test_the_window_holds_different_networks_of_nearly_one_cost():
    space = pyramid(CellsOptions(widths=(4, 8, 16)), Frame(1, (8, 8), 10))
    found = window(space, {"params": 5000}, 20, "params")
    costs = [space.cost(point, "params") for point in found]
    assert len(set(found)) == 20 and found == window(space, {"params": 5000}, 20, "params")
    assert max(costs) <= 5000 and min(costs) > 0.9 * max(costs)


def test_a_verdict_says_what_it_rests_on():
    usual = {"networks": 20, "metric": "macs", "low": 1e6, "high": 2e6, "supernet_s": 420.0, "alone_s": 440.0}
    lost = Verdict(0.18, judged_s=10.0, **usual)
    assert not lost.trusted
    for part in ("0.18", "20 networks", "below 0.6", "7:00 min", "19 could have been trained", "macs 1,000,000"):
        assert part in lost.told
    won = Verdict(TRUSTED, judged_s=10.0, **usual)
    assert won.trusted and "trusted, trials have its weights" in won.told and "not comparable" in won.told
    assert not Verdict(0.9, judged_s=1.0, **{**usual, "networks": 4}).trusted


def test_rank_correlation_is_spearmans_and_none_where_nothing_is_ranked():
    assert rank_correlation([1, 2, 3, 4], [10, 20, 15, 40]) == pytest.approx(0.8)
    assert rank_correlation([1, 1, 1], [1, 2, 3]) == 0 == rank_correlation([], [])


@pytest.mark.parametrize(
    ("supernet", "message"),
    [
        ({"check": 3}, "at least 5"),
        ({"shrink": ["depth", "height"]}, "kernel, depth, width"),
        ({"rule": "fair"}, "single_path"),
        ({"training": {"keep": "best"}}, "keeps the last weights"),
        ({"recalibration": 1}, "at least 2"),
    ],
)
def test_options_that_make_no_sense_are_refused(supernet, message):
    with pytest.raises(ConfigError, match=message):
        StudyConfig.from_dict(settings(**supernet))


def test_weights_are_shared_by_new_networks_that_no_scheduler_ends():
    given = {"model": "small_cnn", "data": "digits", "budget": "macs <= 50%", "name": "s"}
    with pytest.raises(ConfigError, match="space: cells"):
        StudyConfig.from_dict({**given, "evaluation": {"supernet": {}}})
    scheduled = settings()
    scheduled["evaluation"] = {**scheduled["evaluation"], "scheduler": {"name": "asha"}}
    scheduled["evaluation"]["training"] = {"epochs": 10}
    with pytest.raises(ConfigError, match="share weights"):
        StudyConfig.from_dict(scheduled)
    config = StudyConfig.from_dict(settings())
    assert config.evaluation.supernet.training.learning_rate == 0.1
    assert StudyConfig.from_record(config.to_record()) == config
