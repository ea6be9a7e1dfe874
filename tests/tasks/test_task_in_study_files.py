"""The keys `task`, `loss`, `objective` and `direction` of a study file, and what is recorded of them."""

import json

import pytest
import torch

from agents import Goal
from automl.config.study import StudyConfig
from automl.config.task import TaskConfig
from automl.errors import ConfigError, DataError
from automl.study.setup import Setup

MODULE = """
import torch
from torch import nn
from torch.nn import functional as F

def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 8, 1), nn.ReLU(), nn.Conv2d(8, 3, 1))

def data():
    torch.manual_seed(1)
    x = torch.randn(12, 2, 4, 4)
    y = (x[:, 0] > 0).long()
    y[:, 0] = 255
    return {"train": [(x, y)], "validation": [(x * 0.9, y)]}

def weighed(outputs, targets):
    return F.cross_entropy(outputs, targets, weight=torch.tensor([1.0, 2.0, 3.0]), ignore_index=255)

def certainty(outputs, targets):
    return outputs.softmax(1).amax(1)

def metrics():
    return {"certainty": certainty}

def no_metrics():
    return [certainty]
"""
STUDY = """
name: own
model: MODULE:network
data: MODULE:data
budget: macs <= 60%
"""


@pytest.fixture
def study(tmp_path, request):
    """A function that reads a study file with more lines, its module beside it."""
    module = f"own_task_{abs(hash(request.node.name))}"
    (tmp_path / f"{module}.py").write_text(MODULE)

    def read(*lines):
        file = tmp_path / "study.yaml"
        file.write_text("\n".join([STUDY, *lines, ""]).replace("MODULE", module))
        return StudyConfig.from_file(file)

    return read


def test_a_named_task_is_judged_by_its_own_metric(study):
    config = study("task: {name: segmentation, ignore_index: 255}", "loss: MODULE:weighed")
    assert config.goal == Goal("miou", "maximize") and config.task == TaskConfig("segmentation", 255)
    problem = Setup(config).problem
    assert list(problem.metrics) == ["miou", "pixel_accuracy", "loss"] and problem.loss.__name__ == "weighed"
    ((inputs, targets),) = problem.validation
    assert problem.metrics["pixel_accuracy"].of(problem.model(*inputs), targets) > 0
    assert study("task: regression").goal == Goal("rmse", "minimize")
    assert study("task: segmentation", "objective: pixel_accuracy").goal == Goal("pixel_accuracy", "maximize")


def test_metrics_of_ones_own_come_from_a_function(study):
    own = ("task: {name: segmentation, ignore_index: 255, metrics: MODULE:metrics}", "objective: certainty")
    setup = Setup(study(*own, "direction: maximize", "guarantee: certainty >= 0.1"))
    assert setup.problem.metrics["certainty"].direction == "maximize"
    assert setup.config.goal == Goal("certainty", "maximize")
    with pytest.raises(ConfigError, match="direction is missing"):
        study(*own)
    with pytest.raises(ConfigError, match="must return a mapping of metrics"):
        Setup(study("task: {name: segmentation, ignore_index: 255, metrics: MODULE:no_metrics}"))
    with pytest.raises(ConfigError, match="has no function 'nothing' for loss"):
        Setup(study("loss: MODULE:nothing"))


def test_what_is_recorded_gives_the_same_back_and_old_records_lack_nothing(study):
    config = study("task: segmentation", "objective: loss")
    assert StudyConfig.from_record(json.loads(json.dumps(config.to_record()))) == config
    plain = study()
    record = plain.to_record()
    for key in ("task", "loss", "direction"):
        assert record.pop(key) is None
    assert record["objective"] == "accuracy" and StudyConfig.from_record(record) == plain


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (["task: segmentatoin"], "expected one of classification, segmentation"),
        (["task: {ignore_index: 255}"], "say `name: classification` or `segmentation`"),
        (["task: {metrics: nothing}"], "must be `module:function`"),
        (["objective: miuo"], "objective: expected one of accuracy, loss, divergence"),
        (["objective: miou", "direction: minimize"], "miou is to maximize"),
        (["guarantee: miou"], "expected a guarantee"),
    ],
)
def test_what_does_not_fit_is_one_clear_error(study, lines, complaint):
    with pytest.raises(ConfigError, match=complaint):
        study(*lines)


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (
            ["task: {name: segmentation, ignore_index: 255}", "guarantee: miou >= 0.5"],
            "is a rate: write its guarantee in %",
        ),
        (["task: {name: segmentation, ignore_index: 255}", "guarantee: miou <= 50%"], "more is better"),
        (["task: {name: segmentation, ignore_index: 255}", "guarantee: loss >= 1"], "less is better"),
        (["task: {name: segmentation, ignore_index: 255}", "guarantee: loss <= 90%"], "is no rate"),
        (["task: {name: segmentation, ignore_index: 255}", "guarantee: rmse <= 1"], "of no metric that is measured"),
        (
            ["task: {name: segmentation, ignore_index: 255}", "objective: rmse"],
            "is not measured here: .*`objective: miou`",
        ),
    ],
)
def test_what_the_task_does_not_have_is_refused_at_the_start(study, lines, complaint):
    with pytest.raises(ConfigError, match=complaint):
        Setup(study(*lines))


def test_a_task_that_the_outputs_are_not_of_is_refused(study):
    with pytest.raises(DataError, match="regression needs targets of the shape of the outputs"):
        Setup(study("task: regression"))
    with pytest.raises(DataError, match="the loss must accept"):
        Setup(study("task: segmentation"))  # 255 is a label unless it is said to be none


def test_an_embedding_takes_labels_for_nothing(study):
    problem = Setup(study("task: embedding", "objective: cosine")).problem
    ((inputs, targets),) = problem.validation
    assert torch.equal(targets, problem.model(*inputs))
