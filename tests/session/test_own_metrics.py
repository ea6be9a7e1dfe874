"""A study of a problem with metrics of the user's own: agents are told of them, whatever they are called."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from automl.config.model import IN_MEMORY
from automl.config.study import StudyConfig
from automl.lanes.session import Session
from automl.store import frame, open_store
from automl.study.conclude import conclude, manifest
from automl.study.study import Study
from automl.tasks.batches import collect
from automl.tasks.problem import Problem
from automl.types import Phase


def batches(seed: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(24, 6, generator=generator), torch.randint(3, (24,), generator=generator))]


def margin(outputs, targets):
    top = outputs.topk(2, dim=1).values
    return top[:, 0] - top[:, 1]


def most(outputs, targets):
    return outputs.softmax(1).amax(1).mean()


class Listener:
    """Asks for nothing and keeps what it is told."""

    max_trials = None

    def __init__(self):
        self.told = []

    def ask(self, n, running):
        return []

    def tell(self, finished):
        self.told += finished


@pytest.fixture
def problem() -> Problem:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    metrics = {"test_loss": margin, "latency_gain": most}
    test = partial(collect, batches(2), "test", None)
    return Problem(network, batches(0), batches(1), test=test, metrics=metrics)


def test_every_metric_of_a_trial_is_told_and_nothing_that_was_measured_later(problem, tmp_path):
    config = StudyConfig.from_dict(
        {
            "name": "own",
            "model": IN_MEMORY,
            "data": {"name": IN_MEMORY},
            "budget": "macs <= 50%",
            "agent": "random",
            "baselines": [],
            "trials": 3,
            "finish": {"finalists": 1},
        }
    )
    with open_store(tmp_path / "study.db") as store:
        study = Study(store, config, problem)
        study.run()
        winner = conclude(study).winner
        listener = Listener()
        Session(store, study.record, "random", 0, listener, 3)
        searched = {"accuracy", "loss", "divergence", "test_loss", "latency_gain", "macs", "params", "size_bytes"}
        assert len(listener.told) == 3
        assert all(set(trial.values) == searched for trial in listener.told)
        told = listener.told[winner.number].values
        assert winner.values == told
        tested = winner.values_of(Phase.TEST)
        assert set(tested) == {"accuracy", "loss", "test_loss", "latency_gain"} != set(winner.values_of(Phase.FINAL))
        shown = frame(store, "own").set_index(["agent", "number"]).loc[("random", winner.number)]
        assert shown["test_loss"] == told["test_loss"] and shown["test:loss"] == tested["loss"]
        assert shown["test_test_loss"] == tested["test_loss"] and shown["test_accuracy"] == tested["accuracy"]
        measured = manifest(study, winner)["measurements"]
        assert measured["test:loss"].value == tested["loss"]
        assert measured["test_loss"].value == winner.values_of(Phase.FINAL)["test_loss"], "as it was finished"
