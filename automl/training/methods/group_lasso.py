"""OICSR's group lasso: whole channels are pressed towards zero by the norm of all their weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from automl.training.methods.coupled import CoupledChannels, GroupRegulariser
from search_spaces import NetworkSpace


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
