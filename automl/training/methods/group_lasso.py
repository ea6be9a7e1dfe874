"""Training that gathers a network in fewer channels before any are cut: regularisers of coupled groups.

A regulariser is called as `regulariser(network, progress)` after the backward pass and before the optimizer's step,
and adds the gradient of its penalty to `.grad`. The network is one of the shape and names of `NetworkSpace.original`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from automl.errors import ConfigError
from search_spaces import ChannelsStep, Group, NetworkSpace, Plan


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

    def __init__(self, space: NetworkSpace, *, norms: bool = False) -> None:
        """The weights that make and read each channel; with `norms` also all others but biases: norms' scales."""
        self.groups: tuple[Group, ...] = space.groups
        self.starts = np.cumsum([0, *(group.size for group in self.groups)])
        self.count = int(self.starts[-1])
        parameters = dict(space.original.named_parameters(remove_duplicate=False))
        self._shares: list[_Share] = []
        for group, start in zip(self.groups, self.starts, strict=False):
            for member in group.members:
                weight = member.role != "along" or (norms and not member.parameter.endswith("bias"))
                if weight and member.parameter in parameters:
                    owner = torch.full((parameters[member.parameter].shape[member.dim],), self.count)
                    owner[torch.from_numpy(member.indices)] = torch.arange(start, start + group.size)[:, None]
                    self._shares.append(_Share(member.parameter, member.dim, owner))

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


class GroupRegulariser(ABC):
    """A penalty on the sum of squares of each channel's weights."""

    def __init__(self, channels: CoupledChannels, strength: float) -> None:
        if not strength > 0:
            raise ConfigError(f"the strength of a regulariser must be above 0, got {strength}. Leave it out for none")
        self.channels = channels
        self.strength = strength

    @abstractmethod
    def factors(self, squares: Tensor, progress: float) -> Tensor:
        """What the gradient of each channel's weights has of them, before `strength`: [count], from [count]."""

    def __call__(self, network: nn.Module, progress: float) -> None:
        """Add the penalty's gradient to `.grad`; `progress` in [0, 1] is the part of the training that is over."""
        with torch.no_grad():
            squares = self.channels.squares(network)
            self.channels.add_to_gradients(network, self.strength * self.factors(squares, progress))


class OutInGroupLasso(GroupRegulariser):
    """strength * sum over channels of |w|, w all weights that make or read the channel, in one vector.

    Li et al. 2019, "OICSR: Out-In-Channel Sparsity Regularization for Compact Deep Neural Networks", in the form with
    the group lasso: out-channel i of a layer and in-channel i of the next are one group. Where more layers than two
    share a channel, all of them join it.
    """

    def __init__(self, space: NetworkSpace, strength: float = 1e-4) -> None:
        super().__init__(CoupledChannels(space), strength)

    def penalty(self, network: nn.Module) -> Tensor:
        """The penalty as a scalar."""
        return self.strength * self.channels.squares(network).sqrt().sum()

    def factors(self, squares: Tensor, progress: float) -> Tensor:
        """1 / |w|, and 0 for a channel that is gone."""
        return torch.where(squares > 0, squares.clamp(min=1e-20).rsqrt(), 0.0)


class GroupSparseDecay(GroupRegulariser):
    """strength / 2 * sum over channels of gamma |w|^2, gamma from 1 for a group's largest to 2^alpha for its smallest.

    gamma_k = 2^(alpha (I_max - I_k) / (I_max - I_min)) with I_k = |w_k|^2, the extremes those of the channel's group
    (Fang et al. 2023, "DepGraph: Towards Any Structural Pruning", equations 4 and 5, alpha = 4; the factor of 1/2 as
    in the authors' code, and as there w has the scales of batch norms, but no biases). gamma is not differentiated.
    """

    def __init__(self, space: NetworkSpace, strength: float = 5e-4, alpha: float = 4.0) -> None:
        super().__init__(CoupledChannels(space, norms=True), strength)
        self.alpha = alpha
        self._group = self.channels.group_of()

    def factors(self, squares: Tensor, progress: float) -> Tensor:
        """gamma of each channel."""
        group = self._group = self._group.to(squares.device)
        extremes = squares.new_empty(len(self.channels.groups))
        low = extremes.scatter_reduce(0, group, squares, "amin", include_self=False)[group]
        high = extremes.scatter_reduce(0, group, squares, "amax", include_self=False)[group]
        return 2 ** (self.alpha * (high - squares) / (high - low).clamp(min=1e-12))


class GrowingDecay(GroupRegulariser):
    """strength * grown / 2 * |w|^2 on the channels that are to go, grown rising from 0 to 1 and then staying.

    GReg-1 of Wang et al. 2021, "Neural Pruning via Growing Regularization", on coupled channels: what is
    to go is chosen first and pressed out ever harder. The paper raises the factor by 1e-4 every 10 steps up to 1 and
    then trains on with it; here it rises evenly over the first `growth` of the training.
    """

    def __init__(self, space: NetworkSpace, plan: Plan, strength: float = 1.0, growth: float = 0.9) -> None:
        """`plan`: what will be kept."""
        if not 0 < growth <= 1:
            raise ConfigError(f"growth is the part of the training in which the penalty rises, in (0, 1], got {growth}")
        super().__init__(CoupledChannels(space, norms=True), strength)
        self.growth = growth
        self._leaving = torch.ones(self.channels.count)
        for group, start in zip(self.channels.groups, self.channels.starts, strict=False):
            for channel in plan.get(ChannelsStep).kept.get(group.name, range(group.size)):
                self._leaving[start + channel] = 0.0

    def factors(self, squares: Tensor, progress: float) -> Tensor:
        """How far the penalty has grown, for the channels that are to go."""
        self._leaving = self._leaving.to(squares)
        return self._leaving * min(1.0, progress / self.growth)


def energies(space: NetworkSpace, network: nn.Module | None = None) -> dict[str, np.ndarray]:
    """Group -> energy of each channel, the squared norm of all weights that make or read it: [size].

    The importance of OICSR (Li et al. 2019). `network`: one of the shape of `space.original`, which is
    the default.
    """
    channels = CoupledChannels(space)
    return channels.by_group(channels.squares(network or space.original))


def relative(scores: Mapping[str, np.ndarray], top: int = 1) -> dict[str, np.ndarray]:
    """Scores divided by the mean of the `top` highest of their group, so that groups of other layers compare.

    The score by which Fang et al. 2023 (DepGraph) prune after their sparse training. A group of zeros stays one.
    """
    means = {name: float(np.sort(values)[-top:].mean()) for name, values in scores.items()}
    return {name: values / (means[name] or 1.0) for name, values in scores.items()}
