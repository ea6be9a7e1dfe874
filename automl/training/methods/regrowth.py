"""Sparse from the first step to the last: the smallest weights go and others grow in their place (SET, RigL)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from automl.errors import ConfigError
from automl.training.methods.base import Course
from automl.training.methods.masked import Masked
from automl.training.methods.target import Masks, Target, forget, highest


class Regrowth(Masked):
    """Every `every` steps a part of each tensor's weights, the smallest, gives its places to as many others.

    RigL (Evci et al. 2020, "Rigging the lottery", arXiv 1911.11134, algorithm 1 and section 3): the part is
    fraction / 2 (1 + cos(pi t / T_end)) at the part t of the training, and where the gradient is largest weights grow,
    from 0. A step at which weights change places does nothing else. As in the authors' code a weight that has just gone
    may grow again and then keeps its value.

    SET (Mocanu et al. 2018, "Scalable training of artificial neural networks with adaptive sparse connectivity",
    algorithm 1) grows at random instead; with the same times, fraction and zeros for new weights, as Evci et al.
    compare it.

    The zeros to begin with are those of the network as it is given.
    """

    def __init__(
        self, target: Target, *, grow: Literal["gradient", "random"], ends: float, every: int, fraction: float
    ) -> None:
        """A pattern in which single weights cannot change places: `ConfigError`."""
        if not target.pattern.free:
            raise ConfigError(
                "set and rigl let single weights change places, which a pattern such as 2:4 does not allow: set "
                "`pattern: unstructured`, or another method"
            )
        super().__init__()
        self._names = list(target.counts)
        self._grow, self._ends, self._every, self._fraction = grow, ends, every, fraction

    def begin(self, course: Course) -> None:
        """Note which weights are zero."""
        self._masks = Masks.of_nonzero(course.network, self._names)

    def before_step(self, course: Course) -> None:
        """Let weights change places, if it is time to; otherwise gradients of zeros are zero."""
        if not course.done or course.done % self._every or course.progress >= self._ends:
            super().before_step(course)
            return
        part = self._fraction / 2 * (1 + math.cos(math.pi * course.progress / self._ends))
        for name in self._names:
            weight = course.network.get_parameter(name)
            self._masks.kept[name] = self._changed(course, weight, self._masks.on(weight, name), part)
        for group in course.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None  # no step

    def end(self, network: nn.Module) -> None:
        """The zeros of now, which averaged weights have not."""
        self._masks.hold_weights(network)

    @torch.no_grad()
    def _changed(self, course: Course, weight: Tensor, kept: Tensor, part: float) -> Tensor:
        """The new mask of a tensor, after `part` of its weights have changed places."""
        there = int(kept.sum())
        moving = min(int(part * there), kept.numel() - there)
        stays = highest(weight.abs().masked_fill(~kept, -1.0), there - moving)
        if self._grow == "random" or weight.grad is None:
            scores = torch.rand(weight.shape, device=weight.device)
        else:
            scores = weight.grad.abs()
        grown = highest(scores.masked_fill(stays, -1.0), moving)
        forget(course.optimizer, weight, grown & ~kept)
        return stays | grown
