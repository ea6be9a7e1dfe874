"""Gates on coupled channels, learned with the weights, which find how wide each layer is to be within a budget."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from automl.training.methods import hard_concrete
from automl.training.methods.base import Closure, Course, Method
from automl.training.methods.coupled import CoupledChannels, owner_of
from automl.training.methods.expected_cost import ExpectedCost
from automl.training.methods.multiplied import multiplied
from search_spaces import NetworkSpace

PRICED_EVERY = 10
"""Steps between two looks at what channels cost at the expected widths; in between that is taken to be linear."""
COOLING = 0.5
"""The part of the training after which gates move ever less, so that the last of them settle on one side."""


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
    descent and ascent at once, with dual restarts. Adam moves the gates. A channel's gate multiplies the weights that
    read it, wherever they are; where none does, those that make it. So a shut gate is the same as a channel that is cut
    away, unless a norm spans channels.
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
        self._groups, self._gate = space.groups, gate
        self._cost, self._gate_rate, self._dual_rate, self._dropout = cost, gate_rate, dual_rate, dropout
        self._channels, self._decay = CoupledChannels(space), decay
        self._group_of = self._channels.group_of()
        self._owners = _owners(space.original, self._channels)
        self._gates = torch.empty(0)
        self.multipliers = np.zeros(len(cost.metrics))
        """Lambda of each limit."""
        self._over, self._slopes, self._at = np.zeros(0), np.zeros((0, 0)), np.zeros(0)

    def begin(self, course: Course) -> None:
        """Make the gates, all alike but for a little noise."""
        device = next(iter(course.network.parameters())).device
        start = self._gate.initial(self._dropout) + 0.01 * torch.randn(len(self._group_of), device=device)
        self._gates = start.requires_grad_()
        self._group_of = self._group_of.to(device)
        self._owners = {name: [(dim, owner.to(device)) for dim, owner in of] for name, of in self._owners.items()}
        self._adam = torch.optim.Adam([self._gates], self._gate_rate)

    def gradients(self, course: Course, closure: Closure) -> Tensor:
        """Forward and backward with every channel times its gate, drawn anew; a step of ascent."""
        z = self._gate.drawn(self._gates)
        of_gates = self._factors(course.network, z.detach())
        names, weights = list(of_gates), [course.network.get_parameter(name) for name in of_gates]
        with multiplied(weights, [_product(factors) for factors in of_gates.values()]) as before:
            loss = closure()
        gathered = torch.zeros(len(z) + 1, dtype=z.dtype, device=z.device)
        with torch.no_grad():
            for name, weight, as_it_was in zip(names, weights, before, strict=True):
                if weight.grad is None:
                    continue
                for i, (dim, owner) in enumerate(self._owners[name]):
                    others = _product([*of_gates[name][:i], *of_gates[name][i + 1 :]])
                    along = (weight.grad * as_it_was * others).movedim(dim, 0).reshape(len(owner), -1).sum(1)
                    gathered.index_add_(0, owner, along.to(gathered))
                weight.grad.mul_(_product(of_gates[name]))
        self._adam.zero_grad()
        price = self._ascend(course)
        each = price[self._group_of]
        if self._decay:
            each = each + self._decay / 2 * self._channels.squares(course.network).detach()
        cost = (each * self._gate.open_probability(self._gates)).sum()
        torch.autograd.backward([z, cost], [gathered[:-1], torch.ones_like(cost)])
        return loss

    def after_step(self, course: Course) -> None:
        """Move the gates."""
        cooled = min(1.0, (1.0 - course.progress) / (1.0 - COOLING))
        for group in self._adam.param_groups:
            group["lr"] = self._gate_rate * cooled
        self._adam.step()
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
        of_gates = self._factors(network, self._gate.settled(self._gates.detach()))
        with torch.no_grad():
            for name, factors in of_gates.items():
                network.get_parameter(name).mul_(_product(factors))

    def widths(self) -> dict[str, int]:
        """Group -> how many of its channels are to stay, as its gates have learnt it."""
        counts = self._summed(self._gate.counted(self._gates)).round().astype(int)
        return dict(zip((group.name for group in self._groups), counts.tolist(), strict=True))

    def _ascend(self, course: Course) -> Tensor:
        """A step of each multiplier, or its restart; what an open gate of each group adds to the loss: [n_groups]."""
        expected = self._summed(self._gate.open_probability(self._gates))
        if course.done % PRICED_EVERY == 0 or not len(self._at):
            self._over, self._slopes = self._cost.around(expected)
            self._at = expected
        over = self._over + self._slopes @ (expected - self._at)
        self.multipliers = np.where(over > 0, self.multipliers + self._dual_rate * over, 0.0)
        return torch.as_tensor(self.multipliers @ self._slopes).to(self._gates)

    def _summed(self, values: Tensor) -> np.ndarray:
        """Values of each channel, summed over each group: [n_groups]."""
        total = torch.zeros(len(self._groups), dtype=torch.float64, device=values.device)
        summed: np.ndarray = total.index_add_(0, self._group_of, values.detach().double()).cpu().numpy()
        return summed

    def _factors(self, network: nn.Module, z: Tensor) -> dict[str, list[Tensor]]:
        """Parameter -> what multiplies it along each dimension that has gates, in a shape that broadcasts."""
        padded = torch.cat([z, z.new_ones(1)])
        found = {}
        for name, owners in self._owners.items():
            ndim = network.get_parameter(name).ndim
            found[name] = [padded[own].view([-1 if d == dim else 1 for d in range(ndim)]) for dim, own in owners]
        return found


def _owners(network: nn.Module, channels: CoupledChannels) -> dict[str, list[tuple[int, Tensor]]]:
    """Parameter -> dimensions that gates multiply, with the number of the channel that each entry along it belongs to.

    Channels are numbered through, group by group; what belongs to none has the number that follows the last.
    """
    shapes = {name: parameter.shape for name, parameter in network.named_parameters(remove_duplicate=False)}
    owners: dict[tuple[str, int], Tensor] = {}
    for group, start in zip(channels.groups, channels.starts.tolist(), strict=False):
        members = [member for member in group.members if member.parameter in shapes]
        for member in [member for member in members if member.role == "in"] or members:
            place = member.parameter, member.dim
            owner = owner_of(member, shapes[member.parameter][member.dim], start, channels.count)
            owners[place] = torch.minimum(owners.get(place, owner), owner)  # several groups may share a dimension
    found: dict[str, list[tuple[int, Tensor]]] = defaultdict(list)
    for (name, dim), owner in owners.items():
        found[name].append((dim, owner))
    return dict(found)


def _product(factors: list[Tensor]) -> Tensor:
    """All of them multiplied; 1 of none."""
    product = torch.ones(())
    for factor in factors:
        product = factor * product.to(factor)
    return product
