"""Supermasks: which weights stay is learnt, and what they are is not."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from automl.training.methods.base import Closure, Course, Method
from automl.training.methods.multiplied import multiplied
from automl.training.methods.target import Masks, Target, highest

MOMENTUM = 0.9
"""Of the scores, as in the paper's experiments."""


class Supermask(Method):
    """Each weight has a score, and those of the largest scores pass, as many of a tensor as the target has.

    Ramanujan et al. 2020, "What's hidden in a randomly weighted neural network?", arXiv 1911.13299, section 3
    (edge-popup). Gradients go straight through the choice: with m the mask, a score s of a weight w falls by the rate
    times dL/d(w m) w sign(s), with momentum; the sign, as its absolute value counts in the authors' code. The weights
    themselves stay what they are at the beginning; parameters that the target does not name, biases and norms, are
    trained as ever. The paper's weights are random, and so are its first scores; of a trained network the magnitude of
    the weights says more.
    """

    def __init__(self, target: Target, *, scores: str, score_rate: float) -> None:
        """`scores`: what they are at first, "magnitude" or "random". `score_rate`: their highest learning rate, which
        follows the schedule of the training."""
        self._target, self._start, self._rate = target, scores, score_rate
        self._scores: dict[str, Tensor] = {}
        self._moved: dict[str, Tensor] = {}

    def begin(self, course: Course) -> None:
        """Give each weight its score."""
        for name in self._target.counts:
            weight = course.network.get_parameter(name).detach()
            score = torch.empty_like(weight)
            if self._start == "random":
                nn.init.kaiming_uniform_(score, a=5**0.5)
            self._scores[name] = score if self._start == "random" else weight.abs().clone()
            self._moved[name] = torch.zeros_like(weight)

    def gradients(self, course: Course, closure: Closure) -> Tensor:
        """Forward and backward through what passes; scores move, and weights are left out of the step."""
        weights = {name: course.network.get_parameter(name) for name in self._scores}
        masks = self._masks()
        with multiplied([*weights.values()], [masks.kept[name].to(weight.dtype) for name, weight in weights.items()]):
            loss = closure()
        optimizer = course.optimizer
        rate = self._rate * float(optimizer.param_groups[0]["lr"]) / max(float(optimizer.defaults["lr"]), 1e-12)
        for name, weight in weights.items():
            if weight.grad is None:
                continue
            score = self._scores[name]
            slope = weight.grad * weight.detach() * torch.where(score < 0, -1, 1)
            self._moved[name].mul_(MOMENTUM).add_(slope)
            score.sub_(rate * self._moved[name])
            weight.grad = None
        return loss

    def state(self) -> dict[str, Any]:
        """Scores, and the momentum that they have."""
        return {"scores": self._scores, "moved": self._moved}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        for name, score in self._scores.items():
            score.copy_(state["scores"][name])
            self._moved[name].copy_(state["moved"][name])

    def end(self, network: nn.Module) -> None:
        """Set what does not pass to zero."""
        self._masks().hold_weights(network)

    def _masks(self) -> Masks:
        """What passes now."""
        target = self._target
        found = {n: highest(score.abs(), target.counts[n], target.pattern) for n, score in self._scores.items()}
        return Masks(found)
