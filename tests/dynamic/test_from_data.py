"""`slim` and `exits` from a user's own network and batches."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from automl.dynamic.from_data import exits, slim
from automl.errors import BudgetError, ConfigError
from automl.zoo.resnet import ResNet
from tests.kits.digits import held_out, train_batches

TRAINING = {"epochs": 4, "samples": 600, "learning_rate": 0.1, "precision": "float32", "channels_last": True}


def new() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ResNet(1, 10, 1)


@pytest.mark.parametrize("how", [{}, {"norms": "shared", "drawn": 1, "distil_from": None, "even": True}])
def test_every_width_of_a_slimmable_network_has_learnt(how, tmp_path):
    lines = []
    result = slim(new(), train_batches(0), held_out(), (0.5, 0.75), training=TRAINING, say=lines.append, **how)
    ((inputs, targets),) = held_out()
    for width, found in result.measurements.items():
        with torch.no_grad():
            right = (result.network.eval().at(width, *inputs).argmax(1) == targets).double().mean()
        assert found["accuracy"].value == pytest.approx(float(right)) and right > 0.75, (width, right)
    macs = [found["macs"].value for found in result.measurements.values()]
    assert macs == sorted(macs) and len(result.table().splitlines()) == 4 and len(lines) == 4
    result.export(tmp_path, onnx=False)
    told = json.loads((tmp_path / "manifest.json").read_text())["sizes"]
    assert told["measurements"]["0.5"]["macs"] == macs[0]


def test_a_network_with_exits_has_a_curve(tmp_path):
    result = exits(new(), train_batches(0), held_out(), hidden=16, training=TRAINING)
    assert [one.mean_cost <= result.costs[2] for one in result.curve] == [True] * len(result.curve)
    assert result.fixed[2].right > 0.85 and result.fixed[0].mean_cost == result.costs[0]
    half = result.outcome(result.costs[1])
    assert half.mean_cost <= result.costs[1] and half.thresholds == result.thresholds(result.costs[1])
    assert result.table().count("\n") == len(result.curve) + 3
    result.export(tmp_path, onnx=False)
    told = json.loads((tmp_path / "manifest.json").read_text())["sizes"]
    assert told["macs"] == list(result.costs) and len(told["curve"]) == len(result.curve)
    with pytest.raises(BudgetError, match="less than the first exit takes"):
        result.thresholds(10)


def test_a_regression_is_slimmed_by_its_targets_alone():
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    batches = [(x, x.sum(1, keepdim=True))]
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1))
    result = slim(model, batches, batches, (0.5,), training={"epochs": 30, "learning_rate": 0.05})
    assert result.headline == "rmse" and all(found["rmse"].value < 1.5 for found in result.measurements.values())


@pytest.mark.parametrize("training", [{"distillation": {}}, {"method": "gradual"}, {"compile": True}, {"keep": "best"}])
def test_options_that_are_for_studies_are_refused(training):
    with pytest.raises(ConfigError, match="leave"):
        slim(new(), train_batches(0), held_out(), training=training)
    with pytest.raises(ConfigError, match="leave"):
        exits(new(), train_batches(0), held_out(), training=training)
