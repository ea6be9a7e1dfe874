"""Data-aware spatially separable factors: a column and a row of kernels that make the least error in place of one.

A kernel W of [made, read, kh, kw] becomes V: [rank, read, kh, 1] and then U: [made, rank, 1, kw] (Jaderberg et al.
2014, "Speeding up convolutional neural networks with low rank expansions", scheme 2 and section 3.2, on the data). With
a = (read, kh) and j for the column of the kernel, W[o, a, j] is to be the sum over r of U[o, r, j] V[r, a].
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.fit.alternating import Outputs, conjugate_steps, whitened_rows
from automl.fit.moments import damped_cholesky
from search_spaces.operators.factors import as_weights

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
        self._kernel_shape, self._width = weight.shape, width
        self._outputs = Outputs(weight, second_moments, importance, mean)
        n = read * height
        whole, moments = self._outputs.weight.view(made, n, width), self._outputs.moments.view(n, width, n, width)
        right, values = whitened_rows(whole, moments)
        self._right = right * values.clamp_min(0).sqrt()[:, None]  # [full rank, n]
        # Both in orders in which nothing has to be moved between products: G as [b, (k, j, a)], W G as [a, (j, o)].
        self._moments = moments.permute(0, 1, 3, 2).reshape(n, -1)
        cross = (self._outputs.weight @ self._outputs.moments).view(made, n, width)
        self._cross = cross.permute(1, 2, 0).reshape(n, -1)
        self._known: dict[int, tuple[Tensor, Tensor]] = {}

    @property
    def full_rank(self) -> int:
        """The rank at which nothing is lost."""
        return len(self._right)

    def start(self) -> tuple[Tensor, Tensor]:
        """U: [made * kw, full rank] and V: [full rank, read * kh] of all components, not fitted to each other again."""
        return self._as_rows(self._rows(self._right, self._spread(self._right))), self._right

    def factors(self, rank: int) -> tuple[Tensor, Tensor]:
        """U: [made * kw, rank], rows in the order (made, column), and V: [rank, read * kh]."""
        u, v = self._fitted(rank)
        return self._as_rows(u), v

    def weights(self, rank: int) -> tuple[Tensor, Tensor]:
        """V and U as the weights of two convolutions."""
        return as_weights(self._kernel_shape, "separable", *self.factors(rank))

    def _as_rows(self, u: Tensor) -> Tensor:
        """U of [rank, width, made] as [made * width, rank]."""
        return u.permute(2, 1, 0).reshape(-1, len(u))

    def _fitted(self, rank: int) -> tuple[Tensor, Tensor]:
        """U: [rank, width, made] and V: [rank, n]."""
        if rank not in self._known:
            v = self._right[:rank]
            spread = self._spread(v)
            u = self._rows(v, spread)
            for _ in range(ROUNDS):
                v = self._columns(u, v, spread)
                spread = self._spread(v)
                u = self._rows(v, spread)
            lengths = u.square().sum((1, 2)).sqrt(), v.norm(dim=1).clamp_min(1e-30)
            scale = (lengths[0] / lengths[1]).clamp(1e-12, 1e12).sqrt()  # gradients of both are alike
            self._known[rank] = u / scale[:, None, None], v * scale[:, None]
        return self._known[rank]

    def _spread(self, v: Tensor) -> Tensor:
        """The sum over b of V[s, b] G[b, k, a, j]: [rank, (k, j, a)]."""
        return v @ self._moments

    def _rows(self, v: Tensor, spread: Tensor) -> Tensor:
        """The U with the least error for these V, and what they spread to: [rank, width, made]."""
        (rank, n), width = v.shape, self._width
        inner = (spread.view(-1, n) @ v.T).view(rank, width, width, rank).transpose(2, 3).reshape(rank * width, -1)
        right = (v @ self._cross).view(rank * width, -1)
        factor = damped_cholesky(inner, 1e-9)
        return torch.cholesky_solve(right, factor).contiguous().view(rank, width, -1)

    def _columns(self, u: Tensor, v: Tensor, spread: Tensor) -> Tensor:
        """V after some steps of conjugate gradients towards the least error for these U: [rank, n].

        The error is a parabola of V with the curvature sum over o of U[o, r, j] U[o, s, k] f[o] G[a, j, b, k].
        """
        rank, n = v.shape
        weighted, rows = u * self._outputs.importance, rank * self._width
        products = (weighted.view(rows, -1) @ u.view(rows, -1).T).view(rank, self._width, rank, self._width)
        products = products.permute(0, 2, 3, 1).reshape(rank, -1)  # [r, (s, k, j)]
        residual = weighted.view(rank, -1) @ self._cross.T - products @ spread.view(-1, n)
        return conjugate_steps(v, residual, lambda d: products @ self._spread(d).view(-1, n), STEPS)

    def error(self, rank: int) -> float:
        """The squared error of the outputs at `rank`, weighted by their importance."""
        if rank >= self.full_rank:
            return 0.0
        return self._outputs.error(self._kernel(rank))

    def shift(self, rank: int) -> Tensor:
        """What the bias has to gain, since U V leaves some of the mean output of W out: [made]."""
        return self._outputs.shift(self._kernel(rank))

    def _kernel(self, rank: int) -> Tensor:
        u, v = self._fitted(rank)
        return torch.einsum("rjo,ra->oaj", u, v).flatten(1)
