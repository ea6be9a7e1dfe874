"""Growing regularisation: channels that are chosen to go are pressed out before they are cut."""

from __future__ import annotations

import torch
from torch import Tensor

from automl.errors import ConfigError
from automl.training.methods.coupled import CoupledChannels, GroupRegulariser, kept_of
from search_spaces import NetworkSpace, Plan


class GrowingDecay(GroupRegulariser):
    """strength * grown / 2 * |w|^2 on the channels that are to go, grown rising from 0 to 1 and then staying.

    GReg-1 of Wang et al. 2021, "Neural Pruning via Growing Regularization", on coupled channels: what is
    to go is chosen first and pressed out ever harder. The paper raises the factor by 1e-4 every 10 steps up to 1 and
    then trains on with it; here it rises evenly over the first `growth` of the training.
    """

    def __init__(
        self,
        space: NetworkSpace,
        plan: Plan,
        strength: float = 1.0,
        growth: float = 0.9,
        *,
        before: Plan | None = None,
    ) -> None:
        """`plan`: what will be kept; `before`: what the network was built from, None if it is whole."""
        if not 0 < growth <= 1:
            raise ConfigError(f"growth is the part of the training in which the penalty rises, in (0, 1], got {growth}")
        super().__init__(CoupledChannels(space, norms=True, plan=before), strength)
        self.growth = growth
        self._leaving = torch.ones(self.channels.count)
        for group, start in zip(self.channels.groups, self.channels.starts, strict=False):
            self._leaving[torch.from_numpy(start + kept_of(group, plan))] = 0.0

    def factors(self, squares: Tensor, progress: float) -> Tensor:
        """How far the penalty has grown, for the channels that are to go."""
        self._leaving = self._leaving.to(squares)
        return self._leaving * min(1.0, progress / self.growth)
