"""What schemes share that fit the factors of a kernel one after the other, as the inputs of the layer are."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from automl.fit.low_rank import WHITENING_RIDGE
from automl.fit.moments import damped, damped_cholesky, shift_of, squared_errors


class Outputs:
    """What a layer makes of its inputs, and what errors of that cost."""

    def __init__(
        self, weight: Tensor, second_moments: Tensor | None, importance: Tensor | None, mean: Tensor | None
    ) -> None:
        """`weight`: [made, read, kh, kw]; `second_moments`: [features, features] a row, `mean` of those: [features],
        features as in the flattened weight; `importance`: what a squared error of each output costs, [made]. Without
        moments the inputs are as if they were independent."""
        self.weight = weight.double().flatten(1)
        made, features = self.weight.shape
        if second_moments is None:
            self.second = self.moments = torch.eye(features, dtype=torch.float64)
        else:
            self.second, self.moments = second_moments.double(), damped(second_moments, WHITENING_RIDGE)
        self.importance = torch.ones(made, dtype=torch.float64) if importance is None else importance.double()
        self.mean = torch.zeros(features, dtype=torch.float64) if mean is None else mean.double()

    def error(self, kernel: Tensor) -> float:
        """The squared error of the outputs with this kernel, [made, features], weighted by their importance."""
        return float(squared_errors(kernel - self.weight, self.second) @ self.importance)

    def shift(self, kernel: Tensor) -> Tensor:
        """What the bias has to gain with it, so that mean outputs stay: [made]."""
        return shift_of(kernel - self.weight, self.mean)


def whitened_rows(weight: Tensor, moments: Tensor) -> tuple[Tensor, Tensor]:
    """The V of every rank of the best sum over r of U[o, r, j] V[r, a] for W[o, a, j], if moments were a product.

    If the second moments [a, j, b, k] are the product of one matrix over a, b and one over j, k the error is least for
    the singular value decomposition of W, whitened along both. Returns V: [full rank, a], of unit length, and the
    singular values: [full rank].

    `weight`: [made, a, j]; `moments`: [a, j, a, j].
    """
    made, n, width = weight.shape
    along = moments.diagonal(dim1=1, dim2=3).sum(2) / width  # [n, n]
    across = moments.diagonal(dim1=0, dim2=2).sum(2)  # [width, width]
    lower, other = (damped_cholesky(part, 1e-6) for part in (along, across))
    white = torch.einsum("oaj,jk,ab->okb", weight, other, lower).reshape(made * width, n)
    _, values, v = torch.linalg.svd(white, full_matrices=False)
    right = torch.linalg.solve_triangular(lower, v, upper=False, left=False)  # [full rank, n]
    return right / right.norm(dim=1).clamp_min(1e-30)[:, None], values


def conjugate_steps(x: Tensor, residual: Tensor, curved: Callable[[Tensor], Tensor], steps: int) -> Tensor:
    """`x` after some steps of conjugate gradients; `residual`: the gradient down there, `curved`: what moves it by."""
    direction, power = residual, residual.square().sum()
    for _ in range(steps):
        image = curved(direction)
        curvature = (direction * image).sum()
        if not curvature > 0 or not power > 0:
            break
        length = power / curvature
        x, residual = x + length * direction, residual - length * image
        power, before = residual.square().sum(), power
        direction = residual + power / before * direction
    return x
