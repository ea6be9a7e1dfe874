"""L0 regularisation: a gate a weight, and a price on how many gates are open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from automl.training.methods.base import Closure, Course
from automl.training.methods.hard_concrete import LEAST, MOST, drawn, initial, open_probability, settled
from automl.training.methods.masked import Masked
from automl.training.methods.multiplied import multiplied
from automl.training.methods.target import Masks, Target, highest

TIE = 1e-6
"""Of the largest weight: by so little weights are told apart that shut gates make 0."""


class Price(Protocol):
    """What an open gate costs in the loss."""

    def of(self, name: str, gates: int) -> float:
        """An open gate of tensor `name`, which has so many in all."""
        ...

    def see(self, name: str, opened: Tensor, gates: int) -> None:
        """Change with the expected number of its gates that are open, told at every step."""
        ...

    def state(self) -> dict[str, float]:
        """What a checkpoint holds of it."""
        ...

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on from there."""
        ...


class FixedPrice:
    """The same for every gate: lambda of Louizos et al. 2018, equation 1."""

    def __init__(self, strength: float) -> None:
        self._strength = strength

    def of(self, name: str, gates: int) -> float:
        """Lambda."""
        return self._strength

    def see(self, name: str, opened: Tensor, gates: int) -> None:
        """Nothing changes."""

    def state(self) -> dict[str, float]:
        """Nothing is kept."""
        return {}

    def restore(self, state: Mapping[str, float]) -> None:
        """Nothing was kept."""


class L0Gates(Masked):
    """Weights are multiplied by random gates, which are learned with them and pay for being open.

    Louizos et al. 2018, arXiv 1712.01312, with one draw a step: loss(w z) + sum of price P(z > 0), z hard concrete.
    A step of the network's gradients at w z gives dL/dw = dL/d(wz) z and dL/dz = dL/d(wz) w, so that any
    network and loss will do, and nothing is built into it. Adam moves the gates. Weights decay as without gates.

    From `ends` on gates are settled: their values without noise are multiplied into the weights, the largest of which
    stay, as many as the target has, and are trained on. Where fewer gates are open, those that are so most probably
    stay too, from 0 on.
    """

    def __init__(self, target: Target, price: Price, *, ends: float, gate_rate: float, dropout: float) -> None:
        super().__init__()
        self._target, self._price, self._ends = target, price, ends
        self._gate_rate, self._dropout = gate_rate, dropout
        self._gates: dict[str, Tensor] = {}
        self._adam: torch.optim.Adam | None = None
        self._settled = False

    def begin(self, course: Course) -> None:
        """Make the gates, all alike but for a little noise, as in the authors' code."""
        network = course.network
        for name in self._target.counts:
            weight = network.get_parameter(name)
            start = initial(self._dropout) + 0.01 * torch.randn(weight.shape, device=weight.device)
            self._gates[name] = start.requires_grad_()
        if self._gates:
            self._adam = torch.optim.Adam(self._gates.values(), self._gate_rate)

    def gradients(self, course: Course, closure: Closure) -> Tensor:
        """Forward and backward at the weights times their gates."""
        if course.progress >= self._ends and not self._settled:
            self._masks = self._settle(course.network)
            self._settled = True
        if self._settled or self._adam is None:
            return closure()
        parts = [(course.network.get_parameter(name), self._drawn(gate), gate) for name, gate in self._gates.items()]
        with multiplied([weight for weight, _, _ in parts], [z.detach() for _, z, _ in parts]):
            loss = closure()
        self._adam.zero_grad()
        for (weight, z, gate), name in zip(parts, self._gates, strict=True):
            opened = open_probability(gate).sum()
            cost = self._price.of(name, gate.numel()) * opened
            self._price.see(name, opened.detach(), gate.numel())
            if weight.grad is None:
                cost.backward()
                continue
            torch.autograd.backward([z, cost], [weight.grad * weight.detach(), torch.ones_like(cost)])
            weight.grad.mul_(z.detach())
        return loss

    def after_step(self, course: Course) -> None:
        """Move the gates; what has gone stays zero."""
        super().after_step(course)
        if self._settled or self._adam is None:
            return
        self._adam.step()
        with torch.no_grad():
            for gate in self._gates.values():
                gate.clamp_(LEAST, MOST)

    def state(self) -> dict[str, Any]:
        """Gates, what their optimizer remembers, the price; whether they are settled, and what has gone."""
        return {
            "gates": {name: gate.detach() for name, gate in self._gates.items()},
            "adam": self._adam.state_dict() if self._adam is not None else {},
            "price": self._price.state(),
            "settled": self._settled,
            **super().state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        super().restore(state)
        with torch.no_grad():
            for name, gate in self._gates.items():
                gate.copy_(state["gates"][name])
        if self._adam is not None:
            self._adam.load_state_dict(state["adam"])
        self._price.restore(state["price"])
        self._settled = state["settled"]

    def end(self, network: nn.Module) -> None:
        """The network without noise, pruned."""
        if self._settled:
            self._masks.hold_weights(network)
        else:
            self._settle(network)

    @torch.no_grad()
    def _settle(self, network: nn.Module) -> Masks:
        """Multiply the gates into the weights, and prune what the target has no room for; what stays."""
        kept = {}
        for name, gate in self._gates.items():
            weight = network.get_parameter(name)
            weight.mul_(settled(gate))
            scores = weight.abs() + TIE * weight.abs().max() * open_probability(gate)
            kept[name] = highest(scores, self._target.counts[name], self._target.pattern)
        masks = Masks(kept)
        masks.hold_weights(network)
        return masks

    @staticmethod
    def _drawn(gate: Tensor) -> Tensor:
        """Gates drawn anew."""
        return drawn(gate)
