"""Claims on what is learnt beside the weights: which of them there are (16), and which units (13)."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl.training.methods import bernoulli
from automl.training.methods.base import Closure, Course
from automl.training.methods.channel_gates import ChannelGates
from automl.training.methods.connectivity import ConnectivityLearning
from automl.training.methods.expected_cost import ExpectedCost
from automl.training.methods.l0 import FixedPrice
from automl.training.methods.layouts import by_magnitude
from automl.training.methods.target import Masks, Target
from experiments.training.claims_bench import WEIGHTS, Bench, Row, lenet, made_by
from experiments.training.run import PLAIN, accuracy
from search_spaces import NetworkSpace, channel_space

PRICE = 0.01
"""Of a weight that passes."""
UNIT_PRICE, UNIT_RATE = 1e-3, 0.02
"""Of a unit, and the learning rate of the probabilities."""


class OwnNumber(ConnectivityLearning):
    """SCL without a budget: what the mask leaves is what stays."""

    def _chosen(self) -> Masks:
        return Masks({name: m > 0 for name, m in self._variables.items()})


class OneNorm(ConnectivityLearning):
    """SCL whose gradients are divided by one norm for a whole tensor, by which they are as large on average."""

    @staticmethod
    def _normalised(slope: Tensor) -> Tensor:
        return F.normalize(slope.flatten(), dim=0).view(slope.shape) * len(slope) ** 0.5


class HardTanh(ConnectivityLearning):
    """SCL straight through a hard tanh, whose slope is 0 outside [-1, 1]: for the price as well."""

    def gradients(self, course: Course, closure: Closure) -> Tensor:
        before = {name: m.clone() for name, m in self._variables.items()}
        loss = super().gradients(course, closure)
        for name, m in self._variables.items():
            m.copy_(torch.where(before[name].abs() > 1, before[name], m))
        return loss


def connectivity(bench: Bench, seed: int) -> Iterator[Row]:
    """16: the price alone says how many weights are left; then as many by magnitude, of all layers together and of each
    as SCL had them, cut after half of the time, with the rate begun anew; by multipliers; and SCL with something else
    in it, cut to as many. Eight epochs each."""
    options = {"ends": 0.75, "mask_rate": 0.3}
    learnt = lenet(seed)
    yield "SCL", 0, bench.fit(learnt, seed, 8, [OwnNumber(every_weight(), FixedPrice(PRICE), **options)])
    wanted = Target({name: int(learnt.get_parameter(name).count_nonzero()) for name in WEIGHTS})
    left = sum(wanted.counts.values()) / sum(every_weight().counts.values())
    half = bench.trained(seed, 4)
    layouts = {"magnitude, LLR": Target(by_magnitude(half, WEIGHTS, left)), "so, SCL's numbers of each layer": wanted}
    for arm, target in layouts.items():
        network = copy.deepcopy(half)
        yield arm, 0, bench.fit(network, seed, 4, [made_by("iterative", target, rounds=1)])
    network = lenet(seed)
    yield "SCL, the price found", 0, bench.fit(network, seed, 8, [made_by("constrained_scl", wanted)])
    shares = {"SCL": left}
    for arm, kind in (("SCL, one norm a layer", OneNorm), ("SCL, hard tanh", HardTanh)):
        network, method = lenet(seed), kind(wanted, FixedPrice(PRICE), **options)
        yield arm, 0, bench.fit(network, seed, 8, [method])
        shares[arm] = sum(method.opened().values()) / sum(every_weight().counts.values())
    for arm, share in shares.items():
        yield f"weights left by {arm}", 0, share


def every_weight() -> Target:
    """Nothing is to go."""
    return Target({name: lenet(0).get_parameter(name).numel() for name in WEIGHTS})


class Priced(ChannelGates):
    """Every unit has one price, and there is no budget."""

    def __init__(self, space: NetworkSpace) -> None:
        gates = {"gate_rate": UNIT_RATE, "dual_rate": 0.0, "dropout": 0.05, "decay": PLAIN.weight_decay}
        super().__init__(space, ExpectedCost(space, {}), gate=bernoulli, **gates)
        self.macs = 0.0
        """Of one sample, summed over steps: of the units that had not been removed by then."""

    def _ascend(self, course: Course) -> Tensor:
        return torch.full((len(self._channels.groups),), UNIT_PRICE)

    def after_step(self, course: Course) -> None:
        self.macs += macs(*self.units(0.0)) / course.steps
        super().after_step(course)

    def units(self, least: float) -> list[int]:
        """How many units of each layer are more probable than `least`."""
        return [int(n) for n in self._channels.summed((self._gates > least).float())]


def macs(wide: int, narrow: int) -> int:
    """Multiply-accumulates of a LeNet of such widths."""
    return 784 * wide + wide * narrow + narrow * 10


def units(bench: Bench, seed: int) -> Iterator[Row]:
    """13: eight epochs from a network and from one twice as wide, with the same price; and the dense networks."""
    for times in (1, 2):
        widths = 300 * times, 100 * times
        dense = bench.trained(seed) if times == 1 else lenet(seed, *widths)
        if times == 2:
            bench.fit(dense, seed, 8)
        yield "dense", times, accuracy(dense, bench.test)
        space = channel_space(lenet(seed, *widths), (torch.zeros(2, 1, 28, 28),))
        network: nn.Module = copy.deepcopy(space.original)
        method = Priced(space)
        yield "units learnt", times, bench.fit(network, seed, 8, [method])
        wide, narrow = method.units(0.5)
        yield "units of the first layer, of 300", times, wide / 300
        yield "units of the second layer, of 100", times, narrow / 100
        yield "multiply-accumulates left, of 300-100", times, macs(wide, narrow) / macs(300, 100)
        yield "those of its training, of the dense one's", times, method.macs / macs(*widths)
        between = sum(method.units(0.0)) - sum(method.units(0.95))
        yield "units neither here nor gone", times, between / sum(widths)
