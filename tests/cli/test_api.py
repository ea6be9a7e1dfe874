"""`automl.compress`: the whole program in one call."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import nn

import automl
import automl.export
from automl.errors import AutomlError, ConfigError, DataError, StudyError
from automl.measures import count_macs
from automl.store import open_store
from search_spaces import InfeasibleBudgetError
from tests.cli.conftest import automl as command
from tests.kits.plans import kept_by
from tests.kits.rough_times import rough_times


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 16, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4),
    )  # fmt: skip


def batches(seed: int, n: int = 3) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(16, 3, 8, 8, generator=generator), torch.randint(4, (16,), generator=generator)) for _ in range(n)
    ]


def macs(network: nn.Module) -> int:
    return count_macs(network, (torch.zeros(2, 3, 8, 8),))


def test_three_lines_give_a_smaller_network_within_the_budget(model, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = copy.deepcopy(model.state_dict())
    result = automl.compress(model, batches(0), batches(1), budget="macs <= 50%", trials=5)
    assert result.network(torch.randn(5, 3, 8, 8)).shape == (5, 4)
    assert macs(result.network) == result.measurements["macs"].value <= macs(model) / 2
    assert result.base["macs"].value == macs(model)
    assert result.measurements["accuracy"].n == 48
    assert {name: len(kept) for name, kept in kept_by(result.plan).items()} == dict(result.point)
    assert [line.split()[0] for line in result.table().splitlines()[2:6]] == ["base", "uniform", "random", "amc_warm"]
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert model.training
    assert capsys.readouterr().out == ""
    assert list(tmp_path.iterdir()) == [], "without a storage nothing is left behind"


def test_what_an_export_needs_of_the_study_is_kept_in_the_result(model, tmp_path):
    """Ranges of 8-bit activations are those of all calibration samples, and a limit on latency needs the original."""
    with rough_times():
        result = automl.compress(
            *(model, batches(0), batches(1), "latency <= 10 s"),
            **{"latency": {"widths": 2, "processes": 1}, "trials": 1, "agent": "uniform", "baselines": ()},
            progress=False,
        )
        result.export(tmp_path / "winner", ["onnx-int8"])
    told = json.loads((tmp_path / "winner" / "manifest.json").read_text())
    assert told["files"]["onnx-int8"]["compared_samples"] == 48
    assert told["latency_limit"]["value"] == 10_000 and told["original"]["onnx"]["file"] == "original.onnx"


def test_the_result_is_saved_and_loaded_again(model, tmp_path):
    result = automl.compress(model, batches(0), batches(1), trials=2, agent="random", progress=False)
    result.save(tmp_path / "small")
    x = torch.randn(3, 3, 8, 8)
    assert torch.equal(automl.export.load(tmp_path / "small", model)(x), result.network(x))


def test_options_reach_what_they_name(model, capfd):
    result = automl.compress(
        model,
        batches(0),
        batches(1),
        ["params <= 60%", "macs <= 70%"],
        test_data=batches(2, 1),
        agent={"name": "amc", "warmup": 1, "hidden": 8},
        baselines=[],
        objective="loss",
        trials=3,
        seed=7,
        space={"min_keep": 0.5, "round_to": 4},
        evaluation={"reconstruction": "none"},
        progress=False,
    )
    assert result.measurements["test_accuracy"].n == 16
    assert all(level % 4 == 0 for level in result.point.values())
    assert result.manifest["seed"] == 7
    assert result.manifest["limits"].keys() == {"params", "macs"}
    assert "uniform" not in result.table() and "val loss" in result.table()
    assert capfd.readouterr().err == ""


def test_with_a_storage_a_second_call_goes_on(model, tmp_path):
    def compress(trials: int, model: nn.Module = model):
        return automl.compress(
            model, batches(0), batches(1), trials=trials, storage=tmp_path / "s.db", name="mine", progress=False
        )

    def trials():
        with open_store(tmp_path / "s.db", create=False) as store:
            return {trial.id: trial for trial in store.trials(store.study("mine").id)}

    first = compress(3)
    before = trials()
    assert compress(3).point == first.point and trials() == before
    compress(5)
    assert len(trials()) == len(before) + 4
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed[0].weight[0, 0, 0, 0] += 1
    with pytest.raises(StudyError, match="network"):
        compress(3, changed)


def test_the_command_line_says_that_it_cannot_load_a_network_from_memory(model, tmp_path):
    automl.compress(model, batches(0), batches(1), trials=1, storage=tmp_path / "s.db", name="mine", progress=False)
    ran = command("resume", "mine", "--storage", tmp_path / "s.db")
    assert ran.code == 1 and "automl.compress(..., name='mine', storage=...)" in ran.err
    assert command("trials", "mine", "--storage", tmp_path / "s.db").code == 0


@pytest.mark.parametrize(
    ("arguments", "error", "complaint"),
    [
        ({"budget": "macs <= 0.5%"}, InfeasibleBudgetError, "the smallest has"),
        ({"budget": "half"}, ConfigError, "expected a budget"),
        ({"agent": "amd"}, ConfigError, "did you mean 'amc'"),
        ({"train_data": []}, DataError, "at least one batch"),
        ({"validation_data": [(torch.zeros(4, 5), torch.zeros(4).long())]}, DataError, "forward must accept"),
        ({"space": {"min_kep": 1}}, ConfigError, "did you mean 'min_keep'"),
        ({"trials": 0}, ConfigError, "at least 1"),
    ],
)
def test_bad_arguments_get_one_clear_error(model, arguments, error, complaint):
    good = {"model": model, "train_data": batches(0), "validation_data": batches(1), "trials": 1}
    with pytest.raises(error, match=complaint):
        automl.compress(**{**good, **arguments})


def test_a_network_without_class_scores_needs_the_loss(model):
    targets = [(x, torch.randn(16, 4)) for x, _ in batches(0)]
    with pytest.raises(AutomlError, match="objective"):
        automl.compress(model, targets, targets, loss=nn.functional.mse_loss, objective="accuracy", trials=1)
    result = automl.compress(
        model, targets, targets, loss=nn.functional.mse_loss, objective="loss", trials=2, agent="random", progress=False
    )
    assert "accuracy" not in result.measurements
