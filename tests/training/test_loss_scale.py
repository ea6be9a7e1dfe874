"""Training in float16: the scale of the loss beside PyTorch's, gradients that would vanish or overflow, a break."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from automl.config.training import TrainingOptions
from automl.errors import NotFiniteError
from automl.training.loss_scale import FIRST, LossScale
from automl.training.methods.base import Method
from automl.training.trainer import train

HALF = {"batch_size": 8, "precision": "float16", "channels_last": False, "learning_rate": 0.1, "weight_decay": 0.0}


def options(**changes) -> TrainingOptions:
    return TrainingOptions(**{"epochs": 2, "warmup": 0.0, "schedule": "constant", **HALF, **changes})


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))


def data(seed):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(5):
        x = torch.randn(8, 6, generator=generator)
        yield (x,), x.argmax(1) % 3


def times(factor):
    """Cross-entropy times a factor, which training divides the learning rate by."""
    return lambda network, inputs, targets: factor * F.cross_entropy(network(*inputs).float(), targets)


def trained(factor, **changes):
    found = network()
    history = train(found, data, times(factor), options(learning_rate=0.1 / factor, **changes))
    return found, history


def distance(one, other):
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return math.sqrt(sum(float((a - b).detach().square().sum()) for a, b in pairs))


class Watch(Method):
    """Counts steps, and notes whether any gradient that a method is shown is not finite."""

    def __init__(self):
        self.steps, self.finite = 0, True

    def gradients(self, course, closure):
        loss = closure()
        closure()  # as methods may
        self.finite &= all(bool(p.grad.isfinite().all()) for p in course.network.parameters())
        return loss

    def after_step(self, course):
        self.steps += 1


def test_the_scale_goes_the_way_of_pytorchs(monkeypatch):
    monkeypatch.setattr("automl.training.loss_scale.GROWS_AFTER", 3)
    ours, theirs = LossScale(), torch.amp.GradScaler("cpu", growth_interval=3)
    weight = nn.Parameter(torch.zeros(4))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(60):
        overflows = bool(torch.rand((), generator=generator) < 0.12)
        gradient = torch.full((4,), math.inf if overflows else 1.0)
        theirs.scale(torch.zeros(()))
        weight.grad = gradient * theirs.get_scale()
        theirs.step(optimizer)
        theirs.update()
        weight.grad = gradient * ours.value
        assert ours.undo([weight], torch.zeros(())) is not overflows
        assert overflows or torch.equal(weight.grad, gradient)
        assert ours.value == theirs.get_scale()
        seen.add(ours.value > FIRST)
    assert seen == {True, False}


@pytest.mark.parametrize("factor", [1.0, 1e-6])
def test_small_gradients_do_not_vanish(factor, monkeypatch):
    start, exact = network(), trained(factor, precision="float32")[0]
    found, _ = trained(factor)
    assert distance(found, exact) < 0.02 * distance(start, exact)
    monkeypatch.setattr("automl.training.loss_scale.FIRST", 1.0)
    unscaled, _ = trained(factor)
    assert (distance(unscaled, exact) > 0.5 * distance(start, exact)) == (factor < 1)


def test_methods_are_shown_finite_gradients_and_every_step():
    watch = Watch()
    found = network()
    train(found, data, times(3e4), options(learning_rate=1e-6), methods=[watch])
    assert watch.finite and watch.steps == 10


def test_a_loss_that_is_not_finite_is_told():
    with pytest.raises(NotFiniteError, match="use precision float32"):
        train(network(), data, times(math.inf), options())


def test_a_training_that_was_broken_off_goes_on_with_its_scale(tmp_path, monkeypatch):
    monkeypatch.setattr("automl.training.loss_scale.GROWS_AFTER", 4)
    whole, broken = network(), network()
    file = tmp_path / "checkpoint"
    train(whole, data, times(1e3), options(epochs=4, learning_rate=1e-4))
    train(broken, data, times(1e3), options(epochs=4, learning_rate=1e-4), checkpoint=file, until=2)
    scale = torch.load(file)["scale"]
    assert scale["value"] != FIRST and 0 < scale["finite_steps"] < 4
    broken = network()
    train(broken, data, times(1e3), options(epochs=4, learning_rate=1e-4), checkpoint=file)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), broken.parameters(), strict=True))
