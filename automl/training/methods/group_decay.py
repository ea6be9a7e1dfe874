"""DepGraph's sparse training: weight decay that is stronger the weaker a channel is in its group."""

from __future__ import annotations

from torch import Tensor

from automl.training.methods.coupled import CoupledChannels, GroupRegulariser
from search_spaces import NetworkSpace


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
