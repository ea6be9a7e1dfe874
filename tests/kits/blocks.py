"""Residual blocks as a space whose costs add up, with a made-up accuracy and error curves that are off."""

from __future__ import annotations

import numpy as np
from torch import nn

from agents.allocation import Allocator
from search_spaces import ChannelsStep, CostedSpace, Knob, Plan, Point


class BlockSpace(CostedSpace):
    """The channels inside the blocks of a CIFAR ResNet: three stages of `blocks` each, `sizes` wide."""

    metrics = ("macs", "params")
    feature_names = ("index", "out_channels", "in_channels", "height", "width", "stride", "kernel", "macs")

    def __init__(self, blocks: int, sizes: tuple[int, int, int] = (16, 32, 64), min_keep: float = 0.1) -> None:
        self.sizes, self.sides = np.repeat(sizes, blocks), np.repeat([32, 16, 8], blocks)
        self.knobs = tuple(
            Knob(f"block{i}", tuple(range(max(1, int(min_keep * size)), size + 1)))
            for i, size in enumerate(self.sizes.tolist())
        )
        weights = 18 * self.sizes  # a 3x3 convolution into, and one out of, each channel
        self._each = {"macs": weights * self.sides**2, "params": weights + 2}
        self._rest = {"macs": 443_000, "params": 1_100}

    def cost_of_levels(self, levels: np.ndarray, metric: str) -> float:
        return float(self._rest[metric] + levels @ self._each[metric])

    def features(self) -> np.ndarray:
        n = len(self.knobs)
        ones = np.ones(n)
        columns = [np.arange(n), self.sizes, self.sizes, self.sides, self.sides, ones, 3 * ones, ones]
        return np.stack([column / max(column.max(), 1) for column in columns], axis=1)

    def plan(self, point: Point) -> Plan:
        return Plan((ChannelsStep({name: tuple(range(level)) for name, level in point.items()}),))

    def build(self, plan: Plan) -> nn.Module:
        raise NotImplementedError("a space of costs alone")


class BlockProblem:
    """Losses that nearly add up, known through error curves that are off by a factor of up to 3 for each knob.

    Accuracy is 0.935 * exp(-loss), the loss the sum over blocks of a convex function of the channels missing and of
    a quarter to half of the geometric mean of neighbours' losses. Uniform, at half the MACs, loses 0.06.
    """

    def __init__(self, blocks: int, seed: int, sizes: tuple[int, int, int] = (16, 32, 64)) -> None:
        rng = np.random.default_rng([seed, 77])
        self.space = BlockSpace(blocks, sizes)
        n = len(self.space.knobs)
        self.limits = {"macs": 0.5 * self.space.cost_of_levels(self.space.highest, "macs")}
        height, bend = np.exp(rng.normal(0, 0.9, n)), rng.uniform(1.5, 5, n)
        wrong_height, wrong_bend = np.exp(rng.uniform(-1.1, 1.1, n)), np.exp(rng.uniform(-0.25, 0.25, n))
        self._coupling = rng.uniform(0.25, 0.5, n - 1)
        self.losses: dict[str, np.ndarray] = {}
        self.sensitivity: dict[str, np.ndarray] = {}
        for t, knob in enumerate(self.space.knobs):
            shape = np.expm1(bend[t] * (1 - np.array(knob.levels) / knob.size)) / np.expm1(bend[t])
            self.losses[knob.name] = height[t] * shape
            self.sensitivity[knob.name] = height[t] * wrong_height[t] * shape ** wrong_bend[t]
        self._unit = 0.06 / self._loss(self.space.project(np.ones(n), self.limits))

    @property
    def best(self) -> float:
        """The accuracy of the allocation that knows the true losses of single knobs: close to the best there is."""
        return self(Allocator(self.space, self.limits, self.losses).solve(np.ones(len(self.space.knobs))))

    def _loss(self, point: Point) -> float:
        each = np.array([self.losses[knob.name][knob.levels.index(point[knob.name])] for knob in self.space.knobs])
        return float(each.sum() + self._coupling @ np.sqrt(each[1:] * each[:-1]))

    def __call__(self, point: Point) -> float:
        return float(0.935 * np.exp(-self._unit * self._loss(point)))
