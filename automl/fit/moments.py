"""Second moments of a layer's input rows, from a Gram matrix: the form that rounding and factorising want them in."""

from __future__ import annotations

import torch
from torch import Tensor


def moments_of(matrix: Tensor, *, intercept: bool) -> tuple[Tensor, Tensor]:
    """The second moments and the mean of one group's input rows, both divided by the number of rows.

    With `intercept` the moments are those about the mean (the covariance), as a bias or a batch norm after the layer
    takes up what changed weights D do to the mean: with `shift_of(D, mean)` added to it the squared error is
    D covariance D^T, the least that any shift leaves. Without it the moments are about 0 and the mean is returned as
    zeros, so that the shift is none.

    `matrix`: augmented sums of one group, [features + 1, features + 1], the number of rows last (`Gram.matrix[g]`).
    Returns moments: [features, features] and mean: [features], float64.
    """
    rows = matrix[-1, -1].double()
    second, mean = matrix[:-1, :-1].double() / rows, matrix[-1, :-1].double() / rows
    if not intercept:
        return second, torch.zeros_like(mean)
    return second - torch.outer(mean, mean), mean


def shift_of(change: Tensor, mean: Tensor) -> Tensor:
    """What a bias has to gain so that weights changed by `change`, [out, features], leave the mean output: [out]."""
    return -(change.double() @ mean.double())


def squared_errors(change: Tensor, second_moments: Tensor) -> Tensor:
    """The mean squared error a row of each output, for weights changed by `change`, [out, features]: [out], float64."""
    change = change.double()
    return ((change @ second_moments.double()) * change).sum(1).clamp_min(0)


def damped(second_moments: Tensor, damping: float) -> Tensor:
    """Second moments + damping * mean diagonal * identity, and a little more: float64. No feature is without power."""
    second = second_moments.double()
    return second + _ridge(second, damping) * torch.eye(len(second), dtype=torch.float64)


def _ridge(second: Tensor, damping: float) -> Tensor:
    return damping * second.diagonal().abs().mean() + 1e-12


def damped_cholesky(second_moments: Tensor, damping: float) -> Tensor:
    """The lower triangular L with L L^T = second moments + damping * mean diagonal * identity: float64.

    The damping grows where the sum is not positive definite in floating point, as with features that hardly vary
    about a large mean.
    """
    second = second_moments.double()
    identity = torch.eye(len(second), dtype=torch.float64)
    ridge = _ridge(second, damping)
    for _ in range(8):
        factor: Tensor
        factor, info = torch.linalg.cholesky_ex(second + ridge * identity)
        if not info:
            return factor
        ridge = 10 * ridge
    raise ValueError("the second moments of a layer's input are not finite, or far from those of any data")


def same(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether two tensors, or two that are not there, are equal: what was worked out from one holds for the other."""
    if one is None or other is None:
        return one is other
    return one is other or (one.shape == other.shape and torch.equal(one, other))
