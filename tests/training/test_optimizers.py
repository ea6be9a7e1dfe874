"""Optimizers beside SGD, in the loop that trains: what a step is, and a training that is killed under them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from automl.config.training import TrainingOptions
from automl.training.loss import SupervisedLoss
from automl.training.schedules import learning_rate
from automl.training.trainer import train

LOSS = SupervisedLoss(F.cross_entropy)
FORM = {"precision": "float32", "channels_last": False}


def drawn(n: int = 24) -> list[tuple[tuple[torch.Tensor], torch.Tensor]]:
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(0))
    return [((part,), torch.arange(len(part)) % 2) for part in x.split(8)]


def test_a_step_of_adamw_is_that_of_the_paper():
    """Algorithm 2 of Loshchilov & Hutter 2019 by hand: decay beside the gradient, of weights and not of biases."""
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    expected = copy.deepcopy(network)
    chosen = TrainingOptions(epochs=1, optimizer="adamw", learning_rate=0.01, weight_decay=0.5, momentum=0.8, **FORM)
    train(network, lambda seed: drawn(), LOSS, chosen)
    mean = {name: torch.zeros_like(p) for name, p in expected.named_parameters()}
    square = copy.deepcopy(mean)
    for step, ((x,), y) in enumerate(drawn(), start=1):
        rate = learning_rate(chosen, (step - 0.5) / 3)
        gradients = torch.autograd.grad(F.cross_entropy(expected(x), y), list(expected.parameters()))
        with torch.no_grad():
            for (name, p), g in zip(expected.named_parameters(), gradients, strict=True):
                mean[name] = 0.8 * mean[name] + 0.2 * g
                square[name] = 0.999 * square[name] + 0.001 * g**2
                p -= rate * (0.5 * p if name == "weight" else 0)
                p -= rate * mean[name] / (1 - 0.8**step) / ((square[name] / (1 - 0.999**step)).sqrt() + 1e-8)
    torch.testing.assert_close(network.weight, expected.weight)
    torch.testing.assert_close(network.bias, expected.bias)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_training_that_is_broken_off_ends_with_the_same_weights(optimizer, tmp_path):
    start, chosen = nn.Linear(3, 2), TrainingOptions(epochs=3, optimizer=optimizer, **FORM)
    whole, broken, again = (copy.deepcopy(start) for _ in range(3))
    train(whole, lambda seed: drawn(), LOSS, chosen)
    kept = tmp_path / "checkpoint"
    train(broken, lambda seed: drawn(), LOSS, chosen, checkpoint=kept, until=2)
    train(again, lambda seed: drawn(), LOSS, chosen, checkpoint=kept)
    assert torch.equal(again.weight, whole.weight) and not torch.equal(again.weight, start.weight)


def test_each_optimizer_has_a_learning_rate_that_suits_it():
    assert TrainingOptions().highest_rate > TrainingOptions(optimizer="adamw").highest_rate
    assert TrainingOptions(optimizer="adamw", learning_rate=0.5).highest_rate == 0.5
