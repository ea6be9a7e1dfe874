"""Networks trained on scikit-learn's digits in a second or two, and the loop that trains them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl import zoo
from automl.tasks.batches import Batch
from automl.tasks.problem import Problem
from automl.training.methods.base import Course, Method
from automl.zoo.resnet import ResNet


@cache
def digits() -> tuple[Tensor, Tensor]:
    """Images, float32 [1797, 1, 8, 8] about 0, and labels, int64 [1797], in a random order."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    return torch.as_tensor(data.images, dtype=torch.float32)[order, None] / 8 - 1, torch.as_tensor(data.target)[order]


def train_batches(seed: int, size: int = 64) -> list[Batch]:
    """The first 1,200 images, shuffled."""
    x, y = digits()
    order = torch.randperm(1200, generator=torch.Generator().manual_seed(seed))
    return [((x[part],), y[part]) for part in order.split(size)]


def held_out() -> list[Batch]:
    """The others, in one batch."""
    x, y = digits()
    return [((x[1200:],), y[1200:])]


def train(
    network: nn.Module,
    loss: Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor],
    epochs: int,
    rate: float = 0.05,
    method: Method | None = None,
) -> float:
    """SGD with momentum along half a cosine, in place; the mean loss of the last epoch."""
    own: Any = loss
    parameters = [*network.parameters(), *(own.parameters() if hasattr(own, "parameters") else ())]
    optimizer = torch.optim.SGD(parameters, rate, momentum=0.9, nesterov=True)
    steps = epochs * len(train_batches(0))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    course = Course(network, optimizer, steps)
    student = own.begin(network) if hasattr(own, "begin") else network
    network.train()
    total, step = 0.0, 0
    for epoch in range(epochs):
        total = 0.0
        for inputs, targets in train_batches(epoch):
            optimizer.zero_grad()
            value = loss(student, inputs, targets)
            value.backward()
            if method is not None:
                course.done = step
                method.before_step(course)
            optimizer.step()
            if method is not None:
                method.after_step(course)
            schedule.step()
            total, step = total + float(value.detach()), step + 1
    network.eval()
    return total / len(train_batches(0))


def hard(network: nn.Module, inputs: tuple[Tensor, ...], targets: Tensor) -> Tensor:
    """Cross-entropy with the labels."""
    return F.cross_entropy(network(*inputs), targets)


@torch.no_grad()
def accuracy(network: nn.Module) -> float:
    """On the images held out, in eval mode."""
    ((inputs, targets),) = held_out()
    return float((copy.deepcopy(network).eval()(*inputs).argmax(1) == targets).float().mean())


@cache
def problem(name: str) -> Problem:
    """`small_cnn` of width 12, or a ResNet-8, trained; neither must be changed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = zoo.create("small_cnn", width=12) if name == "small_cnn" else ResNet(1, 10, 1)
        train(network, hard, epochs=6)
    torch.set_num_threads(threads)
    return Problem(network, train_batches(0)[:4], held_out(), name=name)
