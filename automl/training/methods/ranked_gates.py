"""Gates in the order of saliency: a number for each group, learned with the weights, says how many are open."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from automl.training.methods.base import Closure, Course, Method
from automl.training.methods.expected_cost import ExpectedCost
from automl.training.methods.gated_channels import COOLING, GatedChannels, cooled_step
from search_spaces import NetworkSpace

LOOKED_EVERY = 10
"""Steps between two looks at which channels are the most salient, and at what another channel of a group costs."""
RAMP = 0.25
"""How many channels of a group have gates that are neither open nor shut at first, as a part of all; by `COOLING` it is
one."""
MOST = 8.0
"""Where the logits of the fractions are held: a group of fewer than 1,500 channels is whole there."""


class RankedGates(Method):
    """Every group of channels has a trainable fraction that is kept, and the task and the budget both pull at it.

    The idea is that of Liberis & Lane 2021, "Differentiable network pruning for microcontrollers", arXiv 2110.08350:
    a pruned fraction for each layer is learned by gradient descent while the network is trained, through gates that
    follow from it and a ranking of the channels by saliency, and the loss has terms for what a microcontroller is
    short of: peak memory, size and multiply-accumulates. With w = size * sigmoid(a) channels wanted of a group, the
    gate of the channel of rank r (0: the most salient) is

        z_r = clip((w - r - 1/2) / m + 1/2, 0, 1),    m from `RAMP` * size down to 1 in the first half of the training

    so that as many gates are more than half open as w says, rounded, and in the second half all but one are 0 or 1.

    What is ours, as the paper's own form could not be read: this ramp; the saliency, which is the norm of all weights
    that make or read a channel; and that the strengths of the resource terms are not set by hand. They are Lagrange
    multipliers as in `ChannelGates`, which rise while the network as it would be cut now is over a limit by its exact
    cost, a whole number of channels in every group, and are 0 again once it is not; descent takes the slopes of
    `ExpectedCost`. Channels are not removed before the training ends, so that those shut may open again.
    """

    def __init__(
        self, space: NetworkSpace, cost: ExpectedCost, *, gate_rate: float, dual_rate: float, dropout: float
    ) -> None:
        """`gate_rate`: of Adam, which moves the fractions by their logits. `dual_rate`: of the ascent of each
        multiplier, per step. `dropout`: which part of every group is pruned at first."""
        self._cost, self._gate_rate, self._dual_rate, self._dropout = cost, gate_rate, dual_rate, dropout
        self._channels = GatedChannels(space)
        narrowest = {knob.name: knob.levels[0] for knob in space.knobs}
        self._sizes = torch.tensor([group.size for group in space.groups], dtype=torch.float32)
        self._least = torch.tensor([narrowest[group.name] for group in space.groups], dtype=torch.float32)
        self._logits, self._ranks = torch.empty(0), torch.empty(0)
        self.multipliers = np.zeros(len(cost.metrics))
        """Of each limit."""
        self._slopes = np.zeros((0, 0))

    def begin(self, course: Course) -> None:
        """Make the fractions, all alike, and rank the channels as they are."""
        device = next(iter(course.network.parameters())).device
        self._channels.to(device)
        self._sizes, self._least = self._sizes.to(device), self._least.to(device)
        self._logits = torch.full_like(self._sizes, math.log(1 / self._dropout - 1)).requires_grad_()
        self._hold()
        self._adam = torch.optim.Adam([self._logits], self._gate_rate)
        self._look(course)

    def gradients(self, course: Course, closure: Closure) -> Tensor:
        """Forward and backward with every channel times its gate; a step of ascent."""
        if course.done % LOOKED_EVERY == 0:
            self._look(course)
        wanted = self._wanted()
        z = self._gates(wanted, course.progress)
        loss, by_gate = self._channels.gradients(course.network, z.detach(), closure)
        over = self._cost.over(self._rounded())
        self.multipliers = np.where(over > 0, self.multipliers + self._dual_rate * over, 0.0)
        price = (torch.as_tensor(self.multipliers @ self._slopes).to(wanted) * wanted).sum()
        self._adam.zero_grad()
        torch.autograd.backward([z, price], [by_gate, torch.ones_like(price)])
        return loss

    def after_step(self, course: Course) -> None:
        """Move the fractions."""
        cooled_step(self._adam, self._gate_rate, course.progress)
        self._hold()

    def state(self) -> dict[str, Any]:
        """Fractions, what their optimizer remembers, the multipliers, ranks and slopes."""
        return {
            "logits": self._logits.detach(),
            "adam": self._adam.state_dict(),
            "multipliers": self.multipliers.tolist(),
            "ranks": self._ranks,
            "slopes": self._slopes.tolist(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        with torch.no_grad():
            self._logits.copy_(state["logits"])
        self._adam.load_state_dict(state["adam"])
        self.multipliers, self._slopes = np.array(state["multipliers"]), np.array(state["slopes"])
        self._ranks = state["ranks"].to(self._logits)

    def end(self, network: nn.Module) -> None:
        """Make the network as it is cut: the most salient channels of each group whole, nothing of the others."""
        widths = torch.as_tensor(self._rounded()).to(self._ranks)
        self._channels.multiply(network, (self._ranks < widths[self._channels.group_of]).to(self._ranks))

    def widths(self) -> dict[str, int]:
        """Group -> how many of its channels are kept."""
        return dict(zip((group.name for group in self._channels.groups), self._rounded().tolist(), strict=True))

    def _look(self, course: Course) -> None:
        """Rank the channels of each group by their norms, and find what another channel costs: [n_limits, n_groups]."""
        with torch.no_grad():
            squares = self._channels.coupled.squares(course.network)
            self._ranks = torch.cat([_rank(part) for part in squares.split([int(s) for s in self._sizes])])
            self._ranks = self._ranks.to(self._logits)
        _, self._slopes = self._cost.around(self._wanted().detach().double().cpu().numpy())

    def _wanted(self) -> Tensor:
        """How many channels each group is to keep, not rounded: [n_groups]."""
        return self._sizes * torch.sigmoid(self._logits)

    def _rounded(self) -> np.ndarray:
        """The same as whole numbers: [n_groups]."""
        rounded: np.ndarray = self._wanted().detach().cpu().numpy().round().astype(np.int64)
        return rounded

    def _gates(self, wanted: Tensor, progress: float) -> Tensor:
        """The gate of each channel: [n_channels]."""
        left = max(0.0, 1.0 - progress / COOLING)
        lengths = (RAMP * left * self._sizes).clamp(min=1.0)
        of = self._channels.group_of
        return ((wanted[of] - self._ranks - 0.5) / lengths[of] + 0.5).clamp(0.0, 1.0)

    def _hold(self) -> None:
        """Keep every group between the narrowest width that may be chosen and the whole."""
        with torch.no_grad():
            least = torch.logit((self._least / self._sizes).double()).clamp(-MOST, MOST).to(self._logits)
            self._logits.copy_(torch.minimum(torch.maximum(self._logits, least), least.new_tensor(MOST)))


def _rank(squares: Tensor) -> Tensor:
    """The place of each channel when they are ordered by falling norm, of equals the first before: [size]."""
    ranks = torch.empty_like(squares)
    ranks[torch.sort(squares, descending=True, stable=True).indices] = torch.arange(len(squares)).to(squares)
    return ranks
