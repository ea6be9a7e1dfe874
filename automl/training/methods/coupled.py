"""Coupled channels in training: sums over all weights of each, and penalties on those.

A regulariser adds the gradient of its penalty to `.grad` before each step of the optimizer.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from automl.errors import ConfigError
from automl.training.methods.base import Course, Method
from search_spaces import ChannelsStep, Group, Member, NetworkSpace, Plan


@dataclass(frozen=True)
class _Share:
    """What channels own of one parameter."""

    parameter: str
    dim: int
    owner: Tensor
    """Entry along `dim` -> number of its channel, or the count of all channels if it has none: [entries]."""


class CoupledChannels:
    """The weights of every channel of every group, as sums over them and as factors on them.

    Channels are numbered through, group by group. What several layers make or read belongs to the channel as a whole,
    so residual sums and several readers count like the two consecutive layers of a plain network. A weight between two
    channels belongs to both.
    """

    def __init__(
        self,
        space: NetworkSpace,
        *,
        roles: Collection[str] = ("out", "in"),
        norms: bool = False,
        plan: Plan | None = None,
    ) -> None:
        """The weights that make ("out") and read ("in") each channel; with `norms` also norms' scales, but no biases.

        `plan`: what the network was built from whose weights are meant; None: one of the shape of `space.original`.
        Channels have the numbers of the original either way, and one that is gone has no weights.
        """
        self.groups: tuple[Group, ...] = space.groups
        self.starts = np.cumsum([0, *(group.size for group in self.groups)])
        self.count = int(self.starts[-1])
        parameters = dict(space.original.named_parameters(remove_duplicate=False))
        gone = _gone(self.groups, plan)
        self._shares: list[_Share] = []
        for group, start in zip(self.groups, self.starts, strict=False):
            for member in group.members:
                scale = member.role == "along" and norms and not member.parameter.endswith("bias")
                if (member.role in roles or scale) and member.parameter in parameters:
                    entries = parameters[member.parameter].shape[member.dim]
                    owner = owner_of(member, entries, int(start), self.count)
                    left = np.setdiff1d(np.arange(len(owner)), gone.get((member.parameter, member.dim), []))
                    self._shares.append(_Share(member.parameter, member.dim, owner[torch.from_numpy(left)]))

    def group_of(self) -> Tensor:
        """The number of each channel's group: [count]."""
        sizes = torch.tensor([group.size for group in self.groups])
        return torch.arange(len(self.groups)).repeat_interleave(sizes)

    def squares(self, network: nn.Module) -> Tensor:
        """The sum of squares of each channel's weights; differentiable: [count]."""
        pieces = [(network.get_parameter(share.parameter), share) for share in self._on(network)]
        total = pieces[0][0].new_zeros(self.count + 1)
        for weight, share in pieces:
            total = total.index_add(
                0, share.owner, weight.square().movedim(share.dim, 0).reshape(len(share.owner), -1).sum(1)
            )
        return total[:-1]

    @torch.no_grad()
    def add_to_gradients(self, network: nn.Module, factors: Tensor) -> None:
        """Add each channel's weights times its factor, [count], to their gradients, where they have any."""
        factors = torch.cat([factors, factors.new_zeros(1)])
        for share in self._on(network):
            weight = network.get_parameter(share.parameter)
            if weight.grad is not None:
                shape = [-1 if dim == share.dim else 1 for dim in range(weight.ndim)]
                weight.grad.addcmul_(weight, factors[share.owner].view(shape))

    @torch.no_grad()
    def scale(self, network: nn.Module, factors: Tensor) -> None:
        """Multiply each channel's weights by its factor, [count]."""
        factors = torch.cat([factors, factors.new_ones(1)])
        for share in self._on(network):
            weight = network.get_parameter(share.parameter)
            shape = [-1 if dim == share.dim else 1 for dim in range(weight.ndim)]
            weight.mul_(factors.to(weight)[share.owner].view(shape))

    def by_group(self, values: Tensor) -> dict[str, np.ndarray]:
        """Values of each channel, [count], as the scores that `NetworkSpace.plan` takes: group -> [size]."""
        array = values.detach().double().cpu().numpy()
        bounds = zip(self.groups, self.starts[:-1], self.starts[1:], strict=True)
        return {group.name: array[start:end] for group, start, end in bounds}

    def _on(self, network: nn.Module) -> list[_Share]:
        """The shares, their indices on the device of the network."""
        device = network.get_parameter(self._shares[0].parameter).device
        if self._shares[0].owner.device != device:
            self._shares = [_Share(s.parameter, s.dim, s.owner.to(device)) for s in self._shares]
        return self._shares


def owner_of(member: Member, entries: int, start: int, none: int) -> Tensor:
    """The number of the channel that each entry along a member's dimension belongs to, or `none`: [entries].

    `start`: the number of its group's first channel.
    """
    owner = torch.full((entries,), none)
    owner[torch.from_numpy(member.indices)] = torch.arange(start, start + len(member.indices))[:, None]
    return owner


def kept_of(group: Group, plan: Plan) -> np.ndarray:
    """The channels of `group` that `plan` keeps, ascending: [n_kept]."""
    return np.array(plan.get(ChannelsStep).kept.get(group.name, range(group.size)), dtype=np.int64)


def _gone(groups: Sequence[Group], plan: Plan | None) -> dict[tuple[str, int], np.ndarray]:
    """(parameter, dim) -> the entries along it that a network lacks which `plan` made: [n_gone]."""
    if plan is None:
        return {}
    found: dict[tuple[str, int], list[np.ndarray]] = defaultdict(list)
    for group in groups:
        removed = np.setdiff1d(np.arange(group.size), kept_of(group, plan))
        for member in group.members:
            found[member.parameter, member.dim].append(member.indices[removed].ravel())
    return {place: np.concatenate(entries) for place, entries in found.items()}


class GroupRegulariser(Method):
    """A penalty on the sum of squares of each channel's weights."""

    def __init__(self, channels: CoupledChannels, strength: float) -> None:
        if not strength > 0:
            raise ConfigError(f"the strength of a regulariser must be above 0, got {strength}. Leave it out for none")
        self.channels = channels
        self.strength = strength

    @abstractmethod
    def factors(self, squares: Tensor, progress: float) -> Tensor:
        """What the gradient of each channel's weights has of them, before `strength`: [count], from [count]."""

    def before_step(self, course: Course) -> None:
        """Add the penalty's gradient to `.grad`."""
        with torch.no_grad():
            squares = self.channels.squares(course.network)
            self.channels.add_to_gradients(course.network, self.strength * self.factors(squares, course.progress))
