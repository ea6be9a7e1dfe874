"""Sparse connectivity learning: a mask learnt beside the weights, and a price on every connection that it leaves."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl.training.methods.base import Closure, Course
from automl.training.methods.l0 import Price
from automl.training.methods.masked import Masked
from automl.training.methods.multiplied import multiplied
from automl.training.methods.target import Masks, Target, highest


class ConnectivityLearning(Masked):
    """Each weight W passes where its mask variable m is above 0, and m is learnt along with it.

    Tang et al. 2022, "Automatic sparse connectivity learning for neural networks", arXiv 2201.05020: a network computes
    with W H(m), H the unit step, and the loss has a price times the number of weights that pass. Gradients go through H
    as if it were the identity, dL/dm = dL/d(W H(m)) W, also of what does not pass, which so may come back; each
    feature's are divided by their norm, and to each the price is added. W itself has dL/dW = dL/d(W H(m)) H(m), so
    that what does not pass keeps its value, but for decay. The feature is the output channel here, m starts as the
    magnitude of W in terms of its tensor's mean, so that one price takes as many of each tensor, and moves by plain
    gradient descent; of the paper none of the three is known to us.

    In the paper the price alone says how many weights are left. Here the budget does, whatever the price is: from
    `ends` on those of the highest m stay, as many as the target has, at the values that they have. With a fixed
    price, `opened` says how many it would have left. If those are more, those of the lowest m go at once; if fewer,
    some come back that were not trained for a while. A price that finds the number wanted spares both.
    """

    def __init__(self, target: Target, price: Price, *, ends: float, mask_rate: float) -> None:
        """`mask_rate`: the learning rate of m."""
        super().__init__()
        self._target, self._price, self._ends, self._rate = target, price, ends, mask_rate
        self._variables: dict[str, Tensor] = {}
        self._settled = False

    def begin(self, course: Course) -> None:
        """Give each weight its m."""
        for name in self._target.counts:
            magnitude = course.network.get_parameter(name).detach().abs()
            self._variables[name] = magnitude / magnitude.mean().clamp_min(torch.finfo(magnitude.dtype).tiny)

    def gradients(self, course: Course, closure: Closure) -> Tensor:
        """Forward and backward through what passes; m moves."""
        if course.progress >= self._ends and not self._settled:
            self._masks = self._chosen()
            self._masks.hold_weights(course.network)
            self._settled = True
        if self._settled:
            return closure()
        weights = {name: course.network.get_parameter(name) for name in self._variables}
        passing = [(m > 0).to(weights[name].dtype) for name, m in self._variables.items()]
        with multiplied([*weights.values()], passing):
            loss = closure()
        for (name, m), passes in zip(self._variables.items(), passing, strict=True):
            weight = weights[name]
            price = self._price.of(name, m.numel())
            self._price.see(name, passes.sum(), m.numel())
            slope = torch.zeros_like(m)
            if weight.grad is not None:
                slope = self._normalised(weight.grad * weight.detach())
                weight.grad.mul_(passes)
            m.sub_(self._rate * (slope + price))
        return loss

    def state(self) -> dict[str, Any]:
        """Mask variables, the price; whether they are settled, and what has gone."""
        own = {"variables": self._variables, "price": self._price.state(), "settled": self._settled}
        return {**own, **super().state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        super().restore(state)
        for name, m in self._variables.items():
            m.copy_(state["variables"][name])
        self._price.restore(state["price"])
        self._settled = state["settled"]

    def end(self, network: nn.Module) -> None:
        """Set what does not stay to zero."""
        (self._masks if self._settled else self._chosen()).hold_weights(network)

    def opened(self) -> dict[str, int]:
        """Tensor -> how many of its weights the mask leaves by itself, before the target is heeded."""
        return {name: int((m > 0).sum()) for name, m in self._variables.items()}

    def _chosen(self) -> Masks:
        """What stays: the highest m, as many as the target has."""
        target = self._target
        return Masks({n: highest(m, target.counts[n], target.pattern) for n, m in self._variables.items()})

    @staticmethod
    def _normalised(slope: Tensor) -> Tensor:
        """The gradient of each output channel's masks divided by its norm."""
        return F.normalize(slope.flatten(1)).view(slope.shape)
