"""A call of `compress` that cannot work ends with one sentence of ours, whatever is wrong with it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from automl import compress
from automl.errors import AutomlError
from automl.tasks.problem import Problem
from automl.training.loss import SupervisedLoss
from automl.training.trainer import TrainingOptions, train
from search_spaces import SpaceError, TraceError

OURS = (AutomlError, TraceError, SpaceError)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    )


def data(label: int | None = None, *, x: Callable[[Tensor], Any] = lambda x: x, y: Any = lambda y: y) -> list[Any]:
    """Four batches; in the last of them a `label`."""
    images, labels = torch.randn(32, 3, 6, 6, generator=torch.Generator().manual_seed(0)), torch.arange(32) % 4
    if label is not None:
        labels[-3] = label
    return [(x(images[i : i + 8]), y(labels[i : i + 8])) for i in range(0, 32, 8)]


class Wrapped(nn.Module):
    """The network, and whatever its forward does first."""

    def __init__(self, before: Callable[[], Any] = lambda: None) -> None:
        super().__init__()
        self.inner, self.before = net(), before

    def forward(self, x: Tensor) -> Tensor:
        self.before()
        return self.inner(x)


def locked() -> nn.Module:
    model = Wrapped()
    model.lock = threading.Lock()
    return model


def quits(*_: Any) -> Any:
    sys.exit(0)


def quits_by_name(*_: Any) -> Any:
    raise SystemExit(3)


def raises(*_: Any) -> Any:
    raise KeyError("mine")


def measured(metric: Callable[..., Any]) -> dict[str, Any]:
    return {"metrics": {"mine": metric}, "objective": "mine", "direction": "maximize"}


MODELS: dict[str, tuple[Callable[[], Any], str]] = {
    "a number": (lambda: 5, "expected a network as a torch.nn.Module, got int"),
    "its class": (lambda: Wrapped, "got its class Wrapped: give an instance"),
    "without weights": (lambda: net().to("meta"), "'0.weight' is on the device 'meta'"),
    "no copy": (locked, "cannot be copied"),
    "quits": (lambda: Wrapped(quits), "ends the program: quits"),
    "out of memory": (lambda: Wrapped(lambda: torch.empty(2**60)), "forward must accept the calibration data"),
    "random": (lambda: nn.Sequential(net(), nn.RReLU(), Noise()), "gives something else on the example input"),
    "quantized": (
        lambda: torch.ao.quantization.quantize_dynamic(net(), {nn.Linear}),
        "give the one that was quantized",
    ),
}


class Noise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)


ARGUMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "late label": ({"train_data": data(9)}, "batch 4 of the calibration data: labels must be .* from 0 to 3.* got 9"),
    "late label to judge by": ({"validation_data": data(-5)}, "batch 4 of the validation data.* ignore_index: -5"),
    "metric raises": (measured(raises), "cannot be evaluated: KeyError: 'mine'"),
    "metric quits": (measured(quits), r"quits .*test_bad_calls.py, line \d+\) exits with 0"),
    "metric is NaN": (measured(lambda o, t: o[:, 0] * float("nan")), "mine is nan"),
    "loss raises": ({"loss": raises}, "the loss must accept"),
    "loss quits": ({"loss": quits_by_name}, "exits with 3"),
    "no batch": ({"train_data": []}, "at least one batch"),
    "arrays": ({"train_data": data(x=lambda x: x.numpy())}, "must be tensors"),
    "half the labels": ({"train_data": data(y=lambda y: y[:4])}, "the same number of samples"),
    "NaN": ({"train_data": data(x=lambda x: x * float("nan"))}, "must hold numbers, got NaN"),
    "other images": ({"validation_data": data(x=lambda x: x[:, :1])}, "must accept the validation data"),
    "no agent": ({"agent": object()}, "agent: expected a mapping"),
    "no trials": ({"trials": 0}, "trials must be at least 1"),
    "no workers": ({"workers": 0}, "workers must be at least 1"),
}


def call(model: Any, **given: Any) -> None:
    usual: dict[str, Any] = {"train_data": data(), "validation_data": data(), "trials": 1, "progress": False}
    compress(model, **{**usual, "agent": "uniform", "baselines": [], **given})


@pytest.mark.filterwarnings("ignore")  # quantization by torch.ao is deprecated, and still what people bring
@pytest.mark.parametrize("case", list(MODELS))
def test_a_network_that_cannot_be_compressed_is_refused_in_a_sentence(case):
    make, expected = MODELS[case]
    with pytest.raises(OURS, match=expected) as caught:
        call(make())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", list(ARGUMENTS))
def test_an_argument_that_makes_no_sense_is_refused_in_a_sentence(case):
    given, expected = ARGUMENTS[case]
    with pytest.raises(OURS, match=expected) as caught:
        call(net(), **given)
    assert "\n" not in str(caught.value)


def test_a_network_under_a_mask_of_pytorch_is_taken_as_it_is():
    model = net()
    prune.l1_unstructured(model[0], "weight", 0.5)
    problem = Problem(model, data(), data())
    with torch.no_grad():
        torch.testing.assert_close(problem.model(data()[0][0]), model.eval()(data()[0][0]))


def test_so_is_one_whose_batches_are_mappings():
    model = Wrapped()
    prune.l1_unstructured(model.inner[0], "weight", 0.5)
    by_name = [{"x": x, "labels": y} for x, y in data()]
    problem = Problem(model, by_name, by_name)
    with torch.no_grad():
        torch.testing.assert_close(problem.model(data()[0][0]), model.eval()(data()[0][0]))


def test_an_index_that_the_forward_lacks_is_no_matter_of_labels():
    network = nn.Sequential(nn.Embedding(3, 4), nn.Flatten(), nn.Linear(8, 4))
    with pytest.raises(IndexError):
        train(
            network,
            lambda seed: [((torch.full((2, 2), 7),), torch.zeros(2, dtype=torch.int64))],
            SupervisedLoss(nn.CrossEntropyLoss()),
            TrainingOptions(epochs=1, precision="float32", channels_last=False),
        )


def test_a_label_that_the_loss_leaves_out_is_accepted():
    loss = nn.CrossEntropyLoss(ignore_index=9)
    Problem(net(), data(9), data(9), loss=loss)
    Problem(net(), data(-100), data(-100))


def test_a_label_of_no_class_is_named_when_it_comes_up_in_training_and_in_the_test_data():
    problem = Problem(net(), data(), data(), test=lambda: data(7, x=lambda x: (x,)))
    with pytest.raises(AutomlError, match="batch 4 of the test data: labels must be"):
        problem.read_test()
    with pytest.raises(AutomlError, match="the loss cannot take a batch of the training data: Target 9"):
        train(
            net(),
            lambda seed: data(9, x=lambda x: (x,)),
            SupervisedLoss(nn.CrossEntropyLoss()),
            TrainingOptions(epochs=1),
        )
