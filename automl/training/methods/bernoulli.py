"""Gates that are 0 or 1 and learn how probably they are 1; one that is hardly ever open is shut for good.

From Guenter & Sideris 2022, "Robust learning of parsimonious deep neural networks", arXiv 2205.04650: units are
multiplied by Bernoulli variables xi_j, and their variational probabilities theta_j are learnt with the weights w_j, by
descent on E[loss] + sum over j of (lambda / 2) theta_j |w_j|^2 + c theta_j, E over the xi_j. That is linear in each
theta_j, so that each goes to 0 or to 1, and units are removed while the network is trained.

The derivative of the first term by theta_j is E[loss at xi_j = 1 - loss at xi_j = 0]. Ours is the slope of the loss in
xi_j at the one draw of a step, straight through. How the paper finds c, by a prior over the prior, is not here: who
has the gates sets their price. Nor are its conditions for removing a unit: one goes at `LEAST`. A gate has one
parameter, theta_j itself, or `GONE`.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEAST = 0.05
"""A gate that is open less probably than this is shut for good."""
GONE = -1.0
"""What stands in the place of its probability."""


def initial(dropout: float) -> float:
    """The probability of gates that are to be shut with the probability `dropout`."""
    return 1 - dropout


def drawn(theta: Tensor) -> Tensor:
    """Gates drawn anew, by PyTorch's default generator; the gradient of each is that of its probability."""
    probability = open_probability(theta)
    return torch.bernoulli(probability.detach()) + (probability - probability.detach())


def open_probability(theta: Tensor) -> Tensor:
    """How probably each gate is 1; without a gradient where it is gone."""
    return theta.clamp(0, 1)


def settled(theta: Tensor) -> Tensor:
    """The gates without noise: 1 where that is more probable than 0."""
    return (theta > 0.5).to(theta)


def counted(theta: Tensor) -> Tensor:
    """Their probabilities, as in short trainings many are on the way: the sum is the width whose cost was priced."""
    return open_probability(theta)


def hold(theta: Tensor) -> None:
    """Bring probabilities back into [0, 1], and shut for good what is hardly ever open; in place."""
    theta.copy_(torch.where(theta < LEAST, GONE, theta.clamp(max=1)))
