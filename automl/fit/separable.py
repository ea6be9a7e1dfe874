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
        self._kernel_shape, self._shape = weight.shape, (made, read * height, width)
        self._outputs = Outputs(weight, second_moments, importance, mean)
        n = read * height
        self._weight = self._outputs.weight.view(made, n, width)
        self._moments = self._outputs.moments.view(n, width, n, width)
        right, values = whitened_rows(self._weight, self._moments)
        self._right = right * values.clamp_min(0).sqrt()[:, None]  # [full rank, n]
        self._cross = (self._weight.flatten(1) @ self._outputs.moments).view(made, n, width)
        self._known: dict[int, tuple[Tensor, Tensor]] = {}

    @property
    def full_rank(self) -> int:
        """The rank at which nothing is lost."""
        return len(self._right)

    def start(self) -> tuple[Tensor, Tensor]:
        """U: [made * kw, full rank] and V: [full rank, read * kh] of all components, not fitted to each other again."""
        u = self._rows(self._right)
        return u.mT.reshape(-1, self.full_rank), self._right

    def factors(self, rank: int) -> tuple[Tensor, Tensor]:
        """U: [made * kw, rank], rows in the order (made, column), and V: [rank, read * kh]."""
        u, v = self._fitted(rank)
        return u.mT.reshape(-1, rank), v

    def weights(self, rank: int) -> tuple[Tensor, Tensor]:
        """V and U as the weights of two convolutions."""
        return as_weights(self._kernel_shape, "separable", *self.factors(rank))

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
        weighted = u * self._outputs.importance[:, None, None]

        def back(change: Tensor) -> Tensor:  # of [made, n, width]
            moved = (change.flatten(1) @ self._outputs.moments).view(self._shape)
            return torch.einsum("orj,oaj->ra", weighted, moved)

        residual = back(self._weight - torch.einsum("orj,ra->oaj", u, v))
        return conjugate_steps(v, residual, lambda d: back(torch.einsum("orj,ra->oaj", u, d)), STEPS)

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
        return torch.einsum("orj,ra->oaj", u, v).flatten(1)
