"""What the claims share: the data, a training of seconds, and a LeNet-300-100."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl.config.method import MethodOptions
from automl.config.training import TrainingOptions
from automl.data import Splits
from automl.tasks.batches import Batch
from automl.training.loss import SupervisedLoss
from automl.training.methods.base import Method
from automl.training.methods.registry import method_of
from automl.training.methods.target import Target
from automl.training.trainer import train
from experiments.training.run import PLAIN, accuracy

WEIGHTS = ("1.weight", "3.weight", "5.weight")
Row = tuple[str, float, float]
"""The arm, what is on the axis, and what came of it."""


class Bench:
    """The data, and what is done with them."""

    def __init__(self, splits: Splits) -> None:
        self.splits = splits
        self.test = splits.test()

    def fit(
        self,
        network: nn.Module,
        seed: int,
        epochs: int,
        methods: Sequence[Method] = (),
        loss: Any = None,
        without: int | None = None,
        **changes: Any,
    ) -> float:
        """Train a network in place; its test accuracy. `without`: a class that no batch has."""
        options: TrainingOptions = replace(PLAIN, epochs=epochs, seed=seed, **changes)

        def batches(epoch: int) -> Iterator[Batch]:
            for inputs, labels in self.splits.training(epoch, options.batch_size):
                kept = slice(None) if without is None else labels != without
                yield tuple(x[kept] for x in inputs), labels[kept]

        train(network, batches, loss or SupervisedLoss(F.cross_entropy), options, methods=list(methods))
        return accuracy(network, self.test)

    @cache  # noqa: B019  # there is one bench
    def trained(self, seed: int, epochs: int = 8) -> nn.Module:
        """A dense network, and whoever changes it takes a copy."""
        network = lenet(seed)
        self.fit(network, seed, epochs)
        return network


def lenet(seed: int, wide: int = 300, narrow: int = 100) -> nn.Module:
    """A new network."""
    torch.manual_seed(seed)
    return nn.Sequential(
        *(nn.Flatten(), nn.Linear(784, wide), nn.ReLU(), nn.Linear(wide, narrow), nn.ReLU(), nn.Linear(narrow, 10))
    )


def target(density: float) -> Target:
    """So many of each layer's weights, twice the part in the last, as Frankle & Carbin prune it half as fast."""
    sizes = {name: lenet(0).get_parameter(name).numel() for name in WEIGHTS}
    return Target({name: round(n * min(1, density * (2 if name == WEIGHTS[-1] else 1))) for name, n in sizes.items()})


def made_by(name: str, wanted: Target, **options: Any) -> Method:
    """A method of the program, as a study would have it."""
    return method_of(MethodOptions(name, **options), wanted)


def masked(network: nn.Module, mask: nn.Module, of: Callable[[Tensor], Tensor] = lambda w: w) -> nn.Module:
    """A copy of a network with the zeros of another one's weights, and of the rest what `of` makes of it."""
    made = copy.deepcopy(network)
    with torch.no_grad():
        for name in WEIGHTS:
            weight = made.get_parameter(name)
            weight.copy_(of(weight) * (mask.get_parameter(name) != 0))
    return made
