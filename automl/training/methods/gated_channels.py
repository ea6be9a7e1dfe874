"""Channels that are multiplied by gates while gradients are taken, and the gradients of gates and weights."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import torch
from torch import Tensor, nn

from automl.training.methods.base import Closure
from automl.training.methods.coupled import CoupledChannels, owner_of
from automl.training.methods.multiplied import multiplied
from search_spaces import NetworkSpace

COOLING = 0.5
"""The part of the training after which gates move ever less, so that the last of them settle on one side."""


class GatedChannels:
    """The weights that a gate on each channel of a network multiplies.

    A channel's gate multiplies the weights that read it, wherever they are; where none does, those that make it. So a
    shut gate is the same as a channel that is cut away, unless a norm spans channels. Channels are numbered through,
    group by group.
    """

    def __init__(self, space: NetworkSpace) -> None:
        self.coupled = CoupledChannels(space)
        self.groups = space.groups
        self.group_of = self.coupled.group_of()
        """The number of each channel's group: [n_channels]."""
        self._owners = _owners(space.original, self.coupled)

    def to(self, device: torch.device) -> None:
        """Go to the device of the network."""
        self.group_of = self.group_of.to(device)
        self._owners = {name: [(dim, owner.to(device)) for dim, owner in of] for name, of in self._owners.items()}

    def gradients(self, network: nn.Module, z: Tensor, closure: Closure) -> tuple[Tensor, Tensor]:
        """Forward and backward with every channel times its gate, `z`: the loss, and its gradient by z, [n_channels].

        The weights are put back, and have their own gradients.
        """
        of_gates = self._factors(network, z)
        names, weights = list(of_gates), [network.get_parameter(name) for name in of_gates]
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
        return loss, gathered[:-1]

    @torch.no_grad()
    def multiply(self, network: nn.Module, z: Tensor) -> None:
        """Multiply each channel by its gate for good."""
        for name, factors in self._factors(network, z).items():
            network.get_parameter(name).mul_(_product(factors))

    def summed(self, values: Tensor) -> np.ndarray:
        """Values of each channel, summed over each group: [n_groups]."""
        total = torch.zeros(len(self.groups), dtype=torch.float64, device=values.device)
        summed: np.ndarray = total.index_add_(0, self.group_of, values.detach().double()).cpu().numpy()
        return summed

    def _factors(self, network: nn.Module, z: Tensor) -> dict[str, list[Tensor]]:
        """Parameter -> what multiplies it along each dimension that has gates, in a shape that broadcasts."""
        padded = torch.cat([z, z.new_ones(1)])
        found = {}
        for name, owners in self._owners.items():
            ndim = network.get_parameter(name).ndim
            found[name] = [padded[own].view([-1 if d == dim else 1 for d in range(ndim)]) for dim, own in owners]
        return found


def cooled_step(adam: torch.optim.Adam, rate: float, progress: float) -> None:
    """Move gates at their rate, which falls along a line from `COOLING` on: `progress` in [0, 1)."""
    for group in adam.param_groups:
        group["lr"] = rate * min(1.0, (1.0 - progress) / (1.0 - COOLING))
    adam.step()


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
