"""Data-aware singular value decomposition: two layers in a row that make the least error in place of one.

A weight W of [out, features] becomes U V with V: [rank, features] and U: [out, rank]. For a convolution V is a
convolution of the same geometry with `rank` outputs, and U is a 1x1 convolution.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from automl.fit.moments import damped_cholesky, shift_of
from search_spaces.operators.factors import as_weights

WHITENING_RIDGE = 1e-3
"""Added to the diagonal of the second moments, relative to its mean: what the data do not determine is as in W."""

LEAST_IMPORTANCE = 1e-6
"""Outputs that matter less than this, relative to the mean, count as much: their importance is divided by."""


@dataclass(frozen=True)
class LowRank:
    """The decomposition of a weight at every rank: rank r is the first r columns of `left` and rows of `right`."""

    left: Tensor
    """[out, full rank], float64."""
    right: Tensor
    """[full rank, features], float64."""
    errors: Tensor
    """Squared error of each rank r, never rising and 0 at the full rank: [full rank + 1], float64."""
    mean: Tensor
    """Mean of the features: [features], float64; zeros if the error counts the mean too."""
    shape: tuple[int, ...] = ()
    """Of the weight of a layer whose decomposition it is."""

    def weights(self, rank: int) -> tuple[Tensor, Tensor]:
        """V and U as the weights of two layers."""
        return as_weights(self.shape, "svd", *self.factors(rank))

    def factors(self, rank: int) -> tuple[Tensor, Tensor]:
        """U: [out, rank] and V: [rank, features]."""
        return self.left[:, :rank], self.right[:rank]

    def error(self, rank: int) -> float:
        """The squared error of the outputs at `rank`, weighted by their importance."""
        return float(self.errors[rank])

    def shift(self, rank: int) -> Tensor:
        """What the bias has to gain, since U V leaves some of the mean output of W out: [out]."""
        return shift_of(-self.left[:, rank:] @ self.right[rank:], self.mean)


def of_layer(weight: Tensor, second_moments: Tensor | None, importance: Tensor | None, mean: Tensor | None) -> LowRank:
    """The decomposition of a layer's weight, [out, ...], which is read as a matrix."""
    return replace(decompose(weight.flatten(1), second_moments, importance, mean), shape=tuple(weight.shape))


def decompose(
    weight: Tensor,
    second_moments: Tensor | None = None,
    importance: Tensor | None = None,
    mean: Tensor | None = None,
    *,
    weighted: bool = False,
    ridge: float = WHITENING_RIDGE,
) -> LowRank:
    """The U V of each rank with the least sum over outputs of |(W - U V) x|^2, averaged over rows x.

    With second moments G + ridge = L L^T that is |(W - U V) L|^2, which the singular value decomposition of W L, cut
    off after `rank` values, makes least: on inputs, Wang et al. 2024, "SVD-LLM", arXiv 2403.07378, section 3.1; it is
    also the principal component analysis of the outputs in Zhang et al. 2015, "Efficient and accurate approximations
    of nonlinear convolutional networks", section 2.1. Without G it is that of the weights (Denton et al. 2014).

    `importance` puts `errors` into the unit of the network's loss: what a squared error of each output costs, [out].
    `weighted` also makes it the error that is least, by the decomposition of importance^1/2 W L. On ResNet-20 with
    ranks of half and three quarters of break-even, batch norms re-estimated, that had 73.3 and 88.7 % top-1 against
    77.5 and 89.3 % without (weights only: 66.3 and 86.9 %): such large errors are no matter of second order.

    Of each component, column of U and row of V have the same length. Of all scales that makes |U|^2 + |V|^2 least, so
    that gradients of both are alike and weight decay does not pull them apart, and keeps numbers near 1 for half
    floats. Other bases of the same U V could do better still, but not the same ones at every rank.

    `weight`: [out, features]; `second_moments`: [features, features] a row, of one group, about `mean`: [features].
    """
    w = weight.double()
    out, features = w.shape
    moments = torch.eye(features, dtype=torch.float64) if second_moments is None else second_moments.double()
    lower = damped_cholesky(moments, 0.0 if second_moments is None else ridge)  # [features, features]
    costs = torch.ones(out, dtype=torch.float64) if importance is None else importance.double()
    root = torch.ones(out, 1, dtype=torch.float64)
    if weighted:
        root = costs.clamp_min(LEAST_IMPORTANCE * float(costs.mean()) + 1e-30).sqrt()[:, None]
    u, values, v = torch.linalg.svd(root * w @ lower, full_matrices=False)
    left = u / root  # [out, full rank]
    right = torch.linalg.solve_triangular(lower, v, upper=False, left=False)  # v L^-1: [full rank, features]
    lengths = left.norm(dim=0), right.norm(dim=1)
    left = left * (values * lengths[1] / lengths[0]).sqrt()
    right = right * (values * lengths[0] / lengths[1]).sqrt()[:, None]
    mean = torch.zeros(features, dtype=torch.float64) if mean is None else mean.double()
    return LowRank(left, right, _tail_errors(left, right, moments, costs), mean)


def _tail_errors(left: Tensor, right: Tensor, moments: Tensor, costs: Tensor) -> Tensor:
    """The weighted squared error of leaving out all components from each on: [full rank + 1]."""
    products = (left.T * costs @ left) * (right @ moments @ right.T)  # of each two components, [full rank, full rank]
    tails = products.flip(0, 1).cumsum(0).cumsum(1).diagonal()  # of the last, the last two, ...
    # Components are all but orthogonal, so this rises with their number but for the ridge and rounding.
    return torch.cat([tails.new_zeros(1), tails.cummax(0).values.clamp_min(0)]).flip(0)
