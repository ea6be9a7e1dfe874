"""CrAM: every step improves the network as it will be once it is pruned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from automl.training.methods.base import Closure, Course
from automl.training.methods.masked import Masked
from automl.training.methods.target import Target


class CompressionAware(Masked):
    """The gradient of a step is that at the network pruned after a step up the gradient.

    Peste et al. 2023, "CrAM: A compression-aware minimizer", arXiv 2207.14200: with g = grad L(w) a step takes
    grad L(C(w + radius g)), and CrAM+ the sum of that and g. C keeps the largest weights of each tensor; of several
    `shares` of the zeros one is drawn at each step (CrAM-Multi). Gradients are not normalised, and statistics of norms
    take in the first pass only. From `ends` on the network is pruned, and what is left is trained by its own
    gradient, so that norms fit it; the paper prunes at the end and re-estimates them.
    """

    def __init__(self, target: Target, *, ends: float, radius: float, plus: bool, shares: Sequence[float]) -> None:
        super().__init__()
        self._target, self._ends, self._radius, self._plus = target, ends, radius, plus
        self._shares = tuple(shares)
        self._settled = False

    def gradients(self, course: Course, closure: Closure) -> Tensor:
        """Two passes forward and backward, or one once the network is pruned."""
        if course.progress >= self._ends and not self._settled:
            self._settled = True
            self._masks = self._target.largest(course.network)
            self._masks.hold_weights(course.network)
        loss = closure()
        if not self._settled:
            self._look_ahead(course, closure)
        return loss

    def state(self) -> dict[str, Any]:
        """Whether the network has been pruned, and what has gone."""
        return {"settled": self._settled, **super().state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        super().restore(state)
        self._settled = state["settled"]

    def end(self, network: nn.Module) -> None:
        """The network pruned."""
        (self._masks if self._settled else self._target.largest(network)).hold_weights(network)

    @torch.no_grad()
    def _look_ahead(self, course: Course, closure: Closure) -> None:
        """Put the gradients of the network pruned in the place of its own, which are in `.grad`, or add them."""
        network = course.network
        trained = [p for group in course.optimizer.param_groups for p in group["params"] if p.grad is not None]
        weights = [p.detach().clone() for p in trained]
        first = [p.grad.clone() for p in trained if p.grad is not None]
        statistics = [buffer.clone() for buffer in network.buffers()]
        for parameter, gradient in zip(trained, first, strict=True):
            parameter.add_(gradient, alpha=self._radius)
        share = self._shares[int(torch.randint(len(self._shares), ()))]
        self._target.largest(network, self._target.part(network, share)).hold_weights(network)
        with torch.enable_grad():
            closure()
        for parameter, weight, gradient in zip(trained, weights, first, strict=True):
            parameter.copy_(weight)
            if self._plus and parameter.grad is not None:
                parameter.grad.add_(gradient)
        for buffer, before in zip(network.buffers(), statistics, strict=True):
            buffer.copy_(before)
