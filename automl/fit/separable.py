"""Data-aware spatially separable factors: a column and a row of kernels that make the least error in place of one.

A kernel W of [made, read, kh, kw] becomes V: [rank, read, kh, 1] and then U: [made, rank, 1, kw] (Jaderberg et al.
2014, "Speeding up convolutional neural networks with low rank expansions", scheme 2 and section 3.2, on the data). With
a = (read, kh) and j for the column of the kernel, W[o, a, j] is to be the sum over r of U[o, r, j] V[r, a].
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.fit.low_rank import WHITENING_RIDGE
from automl.fit.moments import damped, damped_cholesky, shift_of, squared_errors

ROUNDS, STEPS = 2, 8
"""So often V and then U are fitted again, V by so many steps of conjugate gradients."""


class Separable:
    """The factors of one kernel at any rank.

    The error |(W - U V) x|^2 of second moments G[a, j, b, k] has no closed form. If G is the product of one matrix over
    a, b and one over j, k it has: the singular value decomposition of W, whitened along both. From its first `rank`
    components U, for V as it is, is least squares; then V for that U, by conjugate gradients; and so on. No step raises
    the error.
    """

    def __init__(
        self, weight: Tensor, second_moments: Tensor | None, importance: Tensor | None, mean: Tensor | None
    ) -> None:
        """`weight`: [made, read, kh, kw]; `second_moments`: [features, features] a row, `mean` of those: [features],
        features as in the flattened weight; `importance`: what a squared error of each output costs, [made]."""
        made, read, height, width = weight.shape
        self._shape = made, read * height, width
        n = read * height
        self._weight = weight.double().reshape(made, n, width)
        if second_moments is None:
            self._second = moments = torch.eye(n * width, dtype=torch.float64)
        else:
            self._second, moments = second_moments.double(), damped(second_moments, WHITENING_RIDGE)
        self._moments = moments.view(n, width, n, width)
        self._importance = torch.ones(made, dtype=torch.float64) if importance is None else importance.double()
        self._mean = torch.zeros(n * width, dtype=torch.float64) if mean is None else mean.double()
        self._start()
        self._known: dict[int, tuple[Tensor, Tensor]] = {}

    def _start(self) -> None:
        """Find the rows V of every rank, as if the moments were a product, and what least squares needs for U."""
        made, n, width = self._shape
        along = self._moments.diagonal(dim1=1, dim2=3).sum(2) / width  # [n, n]
        across = self._moments.diagonal(dim1=0, dim2=2).sum(2)  # [width, width]
        lower, other = (damped_cholesky(part, 1e-6) for part in (along, across))
        white = torch.einsum("oaj,jk,ab->okb", self._weight, other, lower).reshape(made * width, n)
        _, values, v = torch.linalg.svd(white, full_matrices=False)
        self._right = torch.linalg.solve_triangular(lower, v, upper=False, left=False)  # [full rank, n]
        self._right *= (values.clamp_min(0).sqrt() / self._right.norm(dim=1).clamp_min(1e-30))[:, None]
        self._cross = (self._weight.flatten(1) @ self._moments.reshape(n * width, -1)).view(made, n, width)

    @property
    def full_rank(self) -> int:
        """The rank at which nothing is lost."""
        return len(self._right)

    def factors(self, rank: int) -> tuple[Tensor, Tensor]:
        """U: [made * kw, rank], rows in the order (made, column), and V: [rank, read * kh]."""
        u, v = self._fitted(rank)
        return u.mT.reshape(-1, rank), v

    def _fitted(self, rank: int) -> tuple[Tensor, Tensor]:
        """U: [made, rank, width] and V: [rank, n]."""
        if rank not in self._known:
            v = self._right[:rank]
            u = self._rows(v)
            for _ in range(ROUNDS):
                v = self._columns(u, v)
                u = self._rows(v)
            lengths = u.square().sum((0, 2)).sqrt(), v.norm(dim=1).clamp_min(1e-30)
            scale = (lengths[0] / lengths[1]).clamp(1e-12, 1e12).sqrt()  # gradients of both are alike
            self._known[rank] = u / scale[None, :, None], v * scale[:, None]
        return self._known[rank]

    def _rows(self, v: Tensor) -> Tensor:
        """The U with the least error for these V: [made, rank, width]."""
        rank, width = len(v), self._shape[2]
        half = torch.einsum("ra,ajbk->rjbk", v, self._moments)
        inner = torch.einsum("rjbk,sb->rjsk", half, v).reshape(rank * width, -1)
        right = torch.einsum("oaj,ra->rjo", self._cross, v).reshape(rank * width, -1)
        factor = damped_cholesky(inner, 1e-9)
        return torch.cholesky_solve(right, factor).T.reshape(-1, rank, width)

    def _columns(self, u: Tensor, v: Tensor) -> Tensor:
        """V after some steps of conjugate gradients towards the least error for these U: [rank, n]."""
        weighted = u * self._importance[:, None, None]

        def back(change: Tensor) -> Tensor:  # of [made, n, width]
            made, n, width = self._shape
            moved = (change.flatten(1) @ self._moments.reshape(n * width, -1)).view(made, n, width)
            return torch.einsum("orj,oaj->ra", weighted, moved)

        residual = back(self._weight - torch.einsum("orj,ra->oaj", u, v))
        direction, power = residual, residual.square().sum()
        for _ in range(STEPS):
            curved = back(torch.einsum("orj,ra->oaj", u, direction))
            curvature = (direction * curved).sum()
            if not curvature > 0 or not power > 0:
                break
            length = power / curvature
            v, residual = v + length * direction, residual - length * curved
            power, before = residual.square().sum(), power
            direction = residual + power / before * direction
        return v

    def error(self, rank: int) -> float:
        """The squared error of the outputs at `rank`, weighted by their importance."""
        if rank >= self.full_rank:
            return 0.0
        u, v = self._fitted(rank)
        change = (self._weight - torch.einsum("orj,ra->oaj", u, v)).flatten(1)
        return float(squared_errors(change, self._second) @ self._importance)

    def shift(self, rank: int) -> Tensor:
        """What the bias has to gain, since U V leaves some of the mean output of W out: [made]."""
        u, v = self._fitted(rank)
        return shift_of((torch.einsum("orj,ra->oaj", u, v) - self._weight).flatten(1), self._mean)
