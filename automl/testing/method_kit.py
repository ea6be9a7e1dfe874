"""What any method that brings a network to its zeros must do: subclass, say how it is made, and collect the tests."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents import Goal
from automl.config.training import TrainingOptions
from automl.tasks.batches import Batch
from automl.tasks.metric import Score
from automl.training.history import History
from automl.training.loss import SupervisedLoss
from automl.training.methods.base import Method
from automl.training.methods.target import Target
from automl.training.trainer import train
from search_spaces.operators.patterns import pattern_of

NAMES = ("0.weight", "4.weight")
COUNTS = {"0.weight": 300, "4.weight": 131}
BATCHES = 10


def network(seed: int = 0) -> nn.Module:
    """A convolution, a norm, dropout and a linear layer, for digits."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(1, 40, 4, 2, bias=False), nn.BatchNorm2d(40), nn.ReLU(), nn.Dropout(0.2), Flat())


class Flat(nn.Linear):
    """A linear layer that reads maps."""

    def __init__(self) -> None:
        super().__init__(360, 10)

    def forward(self, x: Tensor) -> Tensor:
        """The outputs, [n, 10]."""
        return super().forward(x.flatten(1))


def sparse(seed: int = 0) -> nn.Module:
    """The same with as many weights of each tensor as `COUNTS`."""
    made = network(seed)
    Target(COUNTS).largest(made).hold_weights(made)
    return made


@cache
def _digits() -> tuple[Tensor, Tensor]:
    """Images, float32 [1797, 1, 8, 8] about 0, and labels, int64 [1797], in a random order."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    return torch.as_tensor(data.images, dtype=torch.float32)[order, None] / 8 - 1, torch.as_tensor(data.target)[order]


def batches(seed: int) -> list[Batch]:
    """An epoch of digits: `BATCHES` batches of 32."""
    x, y = _digits()
    order = torch.randperm(800, generator=torch.Generator().manual_seed(seed))[: BATCHES * 32]
    return [((x[part],), y[part]) for part in order.split(32)]


def plain(**changes: Any) -> TrainingOptions:
    """A training of four epochs."""
    return TrainingOptions(**{"epochs": 4, "precision": "float32", "channels_last": False, **changes})


def nonzeros(trained: nn.Module) -> dict[str, int]:
    """How many weights a packed file would store: -0.0 is one."""
    weights = {name: trained.get_parameter(name).detach() for name in NAMES}
    return {name: int((weight.view(torch.int32) != 0).sum()) for name, weight in weights.items()}


class MethodConformance:
    """Subclass and say in `make` how the method is made."""

    dense = True
    """Whether it begins with all weights."""
    exact = True
    """Whether it ends with as many weights as it is told, and not with fewer as well."""
    passes = 1
    """Forward passes of a step, at most."""
    patterns = True
    """Whether it keeps patterns."""

    def make(self, target: Target) -> Method:
        """The method, made for trainings of 40 steps."""
        raise NotImplementedError

    def start(self, seed: int = 0) -> nn.Module:
        """What it is given to train."""
        return network(seed) if self.dense else sparse(seed)

    def trained(
        self, options: TrainingOptions | None = None, loss: Score = F.cross_entropy, **more: Any
    ) -> tuple[nn.Module, History]:
        """A network that has been trained by the method, and how that went."""
        made = self.start()
        method = self.make(Target(COUNTS))
        return made, train(made, batches, SupervisedLoss(loss), options or plain(), methods=[method], **more)

    def require_zeros(self, made: nn.Module, counts: Mapping[str, int] = COUNTS) -> None:
        """Fail unless a network has its zeros."""
        found = nonzeros(made)
        assert found == counts if self.exact else all(0 < found[name] <= counts[name] for name in counts), found

    @pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
    def test_it_ends_with_the_zeros_that_it_is_told(self, optimizer: str) -> None:
        made, history = self.trained(plain(optimizer=optimizer, ema=0.9 if optimizer == "adamw" else None))
        self.require_zeros(made)
        assert history.epochs[-1].loss < math.log(10), "it has learnt something"
        assert all(p.isfinite().all() for p in made.parameters()) and not made.training

    def test_a_training_that_is_killed_goes_on_to_the_same_weights(self, tmp_path: Path) -> None:
        """After every epoch; each time network, method and optimizer are made anew."""
        whole, _ = self.trained()
        for until in (1, 2, 3, 4):
            cut, _ = self.trained(checkpoint=tmp_path / "checkpoint", until=until)
            self.require_zeros(cut)
        for name, tensor in whole.state_dict().items():
            assert torch.equal(tensor, cut.state_dict()[name]), name

    def test_what_is_validated_has_its_zeros_and_training_is_the_same_for_it(self) -> None:
        seen: list[list[Tensor]] = []

        def validate(made: nn.Module) -> dict[str, float]:
            self.require_zeros(made)
            seen.append([p.detach().clone() for p in made.parameters()])
            return {"worth": (0.2, 0.9, 0.3, 0.1)[len(seen) - 1]}

        goal = Goal("worth", "maximize")
        looked, _ = self.trained(validate=validate, goal=goal)
        unseen, _ = self.trained()
        assert all(torch.equal(a, b) for a, b in zip(looked.parameters(), unseen.parameters(), strict=True))
        del seen[:]
        best, history = self.trained(plain(keep="best"), validate=validate, goal=goal)
        assert history.kept == 2
        assert all(torch.equal(a, b) for a, b in zip(best.parameters(), seen[1], strict=True))

    def test_any_loss_and_several_batches_a_step(self) -> None:
        """A regression, of whole batches joined; one optimizer's step for two batches."""
        calls: list[int] = []

        def squared(outputs: Tensor, targets: Tensor) -> Tensor:
            calls.append(len(targets))
            return (outputs - F.one_hot(targets, 10)).square().mean()

        made, _ = self.trained(plain(accumulate=2, learning_rate=0.1), squared)
        self.require_zeros(made)
        assert len(calls) <= 4 * BATCHES * self.passes

    @pytest.mark.parametrize("pattern", ["2:4", "1x4"])
    def test_a_pattern_is_kept(self, pattern: str) -> None:
        """N:M along the inputs of a row; whole blocks."""
        if not self.patterns:
            pytest.skip("single weights change places")
        made = nn.Sequential(nn.Flatten(), nn.Linear(64, 16))
        target = Target({"1.weight": 512}, pattern_of(pattern))
        train(made, batches, SupervisedLoss(F.cross_entropy), plain(), methods=[self.make(target)])
        groups = (made.get_parameter("1.weight") != 0).view(-1, 4).sum(1)
        assert set(groups.tolist()) <= ({0, 1, 2} if pattern == "2:4" else {0, 1, 2, 3, 4})
        if self.exact:
            assert groups.sum() == 512 and (pattern == "2:4" or set(groups.tolist()) == {0, 4})

    def test_other_tensors_lose_nothing(self) -> None:
        made = self.start()
        count = {"4.weight": COUNTS["4.weight"]}
        before = int((made.get_parameter("0.weight") != 0).sum())
        train(made, batches, SupervisedLoss(F.cross_entropy), plain(), methods=[self.make(Target(count))])
        assert int((made.get_parameter("0.weight") != 0).sum()) >= before
        assert nonzeros(made)["4.weight"] <= COUNTS["4.weight"]
