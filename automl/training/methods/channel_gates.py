"""Gates on coupled channels, learned with the weights, which find how wide each layer is to be within a budget."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from automl.training.methods import hard_concrete
from automl.training.methods.base import Closure, Course, Method
from automl.training.methods.expected_cost import ExpectedCost
from automl.training.methods.gated_channels import GatedChannels, cooled_step
from search_spaces import NetworkSpace

PRICED_EVERY = 10
"""Steps between two looks at what channels cost at the expected widths; in between that is taken to be linear."""


class Gate(Protocol):
    """How gates are random, of one parameter each: [n]. The modules `hard_concrete` and `bernoulli` are such."""

    def initial(self, dropout: float, /) -> float:
        """The parameter of gates that are to be shut with the probability `dropout`."""
        ...

    def drawn(self, gates: Tensor, /) -> Tensor:
        """Gates drawn anew, in [0, 1]; differentiable in their parameters."""
        ...

    def open_probability(self, gates: Tensor, /) -> Tensor:
        """How probably each is not 0; differentiable."""
        ...

    def settled(self, gates: Tensor, /) -> Tensor:
        """The gates without noise."""
        ...

    def counted(self, gates: Tensor, /) -> Tensor:
        """What each adds to the width that has been learnt: in [0, 1]."""
        ...

    def hold(self, gates: Tensor, /) -> None:
        """Bring parameters, in place, back to where they may be."""
        ...


class ChannelGates(Method):
    """Every channel is multiplied by a random gate, and gates pay for what their channels cost.

    Constrained optimisation (Gallego-Posada et al. 2022, "Controlled sparsity via constrained optimization", arXiv
    2208.04425) of hard concrete gates (Louizos et al. 2018, section on group sparsity) or of Bernoulli variables
    (Guenter & Sideris 2022), in place of whose density stand the expected costs of `ExpectedCost`: min over weights and
    gates, max over lambda >= 0 of loss + sum over limits of lambda (expected cost - limit) / cost of the original, by
    descent and ascent at once, with dual restarts. Adam moves the gates. What a gate multiplies, `GatedChannels` says.
    """

    def __init__(
        self,
        space: NetworkSpace,
        cost: ExpectedCost,
        *,
        gate: Gate = hard_concrete,
        gate_rate: float,
        dual_rate: float,
        dropout: float,
        decay: float = 0.0,
    ) -> None:
        """`gate_rate`: of Adam. `dual_rate`: of the ascent of each lambda, per step. `dropout`: how probably a gate is
        shut at first. `decay`: the loss has half of it times P(open) times the squares of the channel's weights, which
        gates heed; the weights themselves decay as without gates."""
        self._gate, self._decay = gate, decay
        self._cost, self._gate_rate, self._dual_rate, self._dropout = cost, gate_rate, dual_rate, dropout
        self._channels = GatedChannels(space)
        self._gates = torch.empty(0)
        self.multipliers = np.zeros(len(cost.metrics))
        """Lambda of each limit."""
        self._over, self._slopes, self._at = np.zeros(0), np.zeros((0, 0)), np.zeros(0)

    def begin(self, course: Course) -> None:
        """Make the gates, all alike but for a little noise."""
        device = next(iter(course.network.parameters())).device
        start = self._gate.initial(self._dropout) + 0.01 * torch.randn(len(self._channels.group_of), device=device)
        self._gates = start.requires_grad_()
        self._channels.to(device)
        self._adam = torch.optim.Adam([self._gates], self._gate_rate)

    def gradients(self, course: Course, closure: Closure) -> Tensor:
        """Forward and backward with every channel times its gate, drawn anew; a step of ascent."""
        z = self._gate.drawn(self._gates)
        loss, by_gate = self._channels.gradients(course.network, z.detach(), closure)
        self._adam.zero_grad()
        price = self._ascend(course)
        each = price[self._channels.group_of]
        if self._decay:
            each = each + self._decay / 2 * self._channels.coupled.squares(course.network).detach()
        cost = (each * self._gate.open_probability(self._gates)).sum()
        torch.autograd.backward([z, cost], [by_gate, torch.ones_like(cost)])
        return loss

    def after_step(self, course: Course) -> None:
        """Move the gates."""
        cooled_step(self._adam, self._gate_rate, course.progress)
        with torch.no_grad():
            self._gate.hold(self._gates)

    def state(self) -> dict[str, Any]:
        """Gates, what their optimizer remembers, the multipliers, and the costs that are held for linear."""
        return {
            "gates": self._gates.detach(),
            "adam": self._adam.state_dict(),
            "multipliers": self.multipliers.tolist(),
            "priced": [self._over.tolist(), self._slopes.tolist(), self._at.tolist()],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        with torch.no_grad():
            self._gates.copy_(state["gates"])
        self._adam.load_state_dict(state["adam"])
        self.multipliers = np.array(state["multipliers"])
        self._over, self._slopes, self._at = (np.array(part) for part in state["priced"])

    def end(self, network: nn.Module) -> None:
        """The network without noise: each channel times its settled gate, which of most is 0 or 1."""
        self._channels.multiply(network, self._gate.settled(self._gates.detach()))

    def widths(self) -> dict[str, int]:
        """Group -> how many of its channels are to stay, as its gates have learnt it."""
        counts = self._channels.summed(self._gate.counted(self._gates)).round().astype(int)
        return dict(zip((group.name for group in self._channels.groups), counts.tolist(), strict=True))

    def _ascend(self, course: Course) -> Tensor:
        """A step of each multiplier, or its restart; what an open gate of each group adds to the loss: [n_groups]."""
        expected = self._channels.summed(self._gate.open_probability(self._gates))
        if course.done % PRICED_EVERY == 0 or not len(self._at):
            self._over, self._slopes = self._cost.around(expected)
            self._at = expected
        over = self._over + self._slopes @ (expected - self._at)
        self.multipliers = np.where(over > 0, self.multipliers + self._dual_rate * over, 0.0)
        return torch.as_tensor(self.multipliers @ self._slopes).to(self._gates)
