"""GrOWL: channels that are little needed become exactly zero, and norms of those that are alike become equal.

Zhang et al. 2018, "Learning to Share: Simultaneous Parameter Tying and Sparsification in Deep Learning" (ICLR), group
ordered weighted l1 (Oswal et al. 2016): sum over i of lambda_i |w_[i]|, the norms of a layer's groups in descending
order, lambda not ascending. A group has the weights that read one channel, in all layers that read it, so that no
weight is in two and the proximal operator is exact: that of the vector of norms, by which the weights are scaled.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import isotonic_regression
from torch import Tensor, nn

from automl.errors import ConfigError
from automl.training.methods.base import Course, Method
from automl.training.methods.coupled import CoupledChannels
from search_spaces import NetworkSpace

Vector = npt.NDArray[np.float64]
"""[n]"""


def ordered_l1(norms: Vector, weights: Vector) -> float:
    """The ordered weighted l1 norm: `weights`, descending, times the magnitudes of `norms`, descending."""
    return float(weights @ -np.sort(-np.abs(norms)))


def prox_of_ordered_l1(norms: Vector, weights: Vector) -> Vector:
    """The x that minimises |x - norms|^2 / 2 + ordered_l1(x, weights), of `norms` of at least 0.

    Bogdan et al. 2015, "SLOPE" (AOAS), section 2.2: the best fit that does not ascend to the sorted norms less their
    weights, no less than 0, in the places of the norms.
    """
    order = np.argsort(-norms, kind="stable")
    found = np.empty_like(norms)
    found[order] = np.maximum(isotonic_regression(norms[order] - weights, increasing=False).x, 0.0)
    return found


class OrderedGroupLasso(Method):
    """GrOWL by a proximal step after each of the optimizer, of its learning rate, in each group of channels.

    lambda_i = strength * (1 + tying * (1 - (i - 1) / p)) for the p = n / 2 largest norms of n, and strength for all
    others: the paper's line that ends in a constant (PLD). `tying` of 0 is the group lasso. An optimizer that scales
    steps, such as AdamW, has the same proximal step as SGD, as its weight decay has; the step takes no part in
    momentum, which of 0.9 makes a penalty in the gradient ten times as strong.
    """

    def __init__(self, space: NetworkSpace, strength: float = 1e-3, tying: float = 1.0) -> None:
        if not 0 < strength < math.inf or not 0 <= tying < math.inf:
            raise ConfigError(
                f"GrOWL expects a strength above 0 and a tying of at least 0, got {strength} and {tying}. Leave the "
                f"regulariser out for none"
            )
        self.channels = CoupledChannels(space, roles=("in",))
        self.strength = strength
        self._weights = [strength * _descending(group.size, tying) for group in self.channels.groups]

    def penalty(self, network: nn.Module) -> float:
        """The penalty of the weights as they are."""
        return sum(ordered_l1(norms, weights) for norms, weights in self._norms(network))

    @torch.no_grad()
    def after_step(self, course: Course) -> None:
        """Take the proximal step: channels beneath the threshold are zero from here on, until a gradient moves them."""
        rate = float(course.optimizer.param_groups[0]["lr"])
        factors = [_factors(norms, rate * weights) for norms, weights in self._norms(course.network)]
        self.channels.scale(course.network, torch.from_numpy(np.concatenate(factors)))

    def _norms(self, network: nn.Module) -> list[tuple[Vector, Vector]]:
        """The norms of each group of channels, and its weights lambda."""
        with torch.no_grad():
            norms: Vector = self.channels.squares(network).sqrt().double().cpu().numpy()
        parts = [norms[start:end] for start, end in pairwise(self.channels.starts)]
        return list(zip(parts, self._weights, strict=True))


def _descending(count: int, tying: float) -> Vector:
    """lambda over strength: [count]."""
    return 1 + tying * np.maximum(1 - np.arange(count) / max(count // 2, 1), 0.0)


def _factors(norms: Vector, weights: Vector) -> Vector:
    """What the weights of each channel are multiplied by."""
    moved = prox_of_ordered_l1(norms, weights)
    return np.divide(moved, norms, out=np.zeros_like(norms), where=norms > 0)


def norms_of(space: NetworkSpace, network: nn.Module) -> dict[str, np.ndarray]:
    """Group -> the norm of the weights that read each channel: [size]."""
    channels = CoupledChannels(space, roles=("in",))
    squares: Tensor = channels.squares(network)
    return channels.by_group(squares.sqrt())
