"""Data-aware Tucker-2 factors: fewer channels before and after a small kernel, with the least error of the outputs.

A kernel W of [made, read, kh, kw] becomes V: [a, read], a core C: [b, a, kh, kw] and U: [made, b] (Kim et al. 2016,
section 3.1, on the data). With t for the taps W[o, i, t] is to be the sum over a and b of U[o, b] C[b, a, t] V[a, i].
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.fit.alternating import Outputs, conjugate_steps, whitened_rows
from automl.fit.low_rank import LowRank, decompose
from automl.fit.moments import damped_cholesky

ROUNDS, STEPS = 2, 8
"""So often V is fitted again, by so many steps of conjugate gradients, and core and U after it."""


class Tucker:
    """The factors of one kernel at any two ranks.

    V begins as in a higher-order singular value decomposition whose dimension of channels is whitened by the second
    moments. Core and U for a V are one matrix of low rank that multiplies V x, of which the best is known
    (`automl.fit.low_rank`): no alternating between these two. Then V for those, by conjugate gradients; and so on.
    """

    def __init__(
        self, weight: Tensor, second_moments: Tensor | None, importance: Tensor | None, mean: Tensor | None
    ) -> None:
        """As for `Outputs`."""
        self._shape = weight.shape
        made, read, taps = *weight.shape[:2], weight[0, 0].numel()
        self._outputs = Outputs(weight, second_moments, importance, mean)
        self._sizes = made, read, taps
        self._cross = (self._outputs.weight @ self._outputs.moments).view(made, read, taps)
        moments = self._outputs.moments.view(read, taps, read, taps)
        right, values = whitened_rows(self._outputs.weight.view(made, read, taps), moments)
        self._start = right * values.clamp_min(0).sqrt()[:, None]
        self._known: dict[tuple[int, int], tuple[Tensor, Tensor, Tensor]] = {}

    def factors(self, ranks: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """V: [a, read], the core: [b, a, taps], and U: [made, b], of the ranks a and b."""
        if ranks not in self._known:
            a, b = ranks
            missing = self._start.new_zeros(max(a - len(self._start), 0), self._start.shape[1])
            v = torch.cat([self._start[:a], missing])
            core, u = self._inner(v, b)
            for _ in range(ROUNDS):
                v = self._columns(v, core, u)
                core, u = self._inner(v, b)
            self._known[ranks] = balanced(v, core, u)
        return self._known[ranks]

    def weights(self, ranks: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """The same as the weights of three convolutions."""
        v, core, u = self.factors(ranks)
        return v[:, :, None, None], core.view(*core.shape[:2], *self._shape[2:]), u[:, :, None, None]

    def error(self, ranks: tuple[int, int]) -> float:
        """The squared error of the outputs at these ranks, weighted by their importance."""
        return self._outputs.error(self._kernel(*self.factors(ranks)))

    def shift(self, ranks: tuple[int, int]) -> Tensor:
        """What the bias has to gain, since mean outputs are not what they were: [made]."""
        return self._outputs.shift(self._kernel(*self.factors(ranks)))

    def _kernel(self, v: Tensor, core: Tensor, u: Tensor) -> Tensor:
        return torch.einsum("ob,bat,ai->oit", u, core, v).flatten(1)

    def _inner(self, v: Tensor, rank: int) -> tuple[Tensor, Tensor]:
        """The core and U with the least error for this V: [b, a, taps], [made, b]."""
        made, read, taps = self._sizes
        moments = self._outputs.moments.view(read, taps, read, taps)
        half = torch.einsum("ai,itjs->atjs", v, moments)
        inner = torch.einsum("atjs,bj->atbs", half, v).reshape(len(v) * taps, -1)  # of V x
        cross = torch.einsum("oit,ai->oat", self._cross, v).flatten(1)
        best = _solved(inner, cross)
        found: LowRank = decompose(best, inner, ridge=1e-9)
        u, core = found.factors(rank)
        missing = rank - len(core)
        u = torch.cat([u, u.new_zeros(made, missing)], dim=1)
        return torch.cat([core, core.new_zeros(missing, core.shape[1])]).view(rank, len(v), taps), u

    def _columns(self, v: Tensor, core: Tensor, u: Tensor) -> Tensor:
        """V after some steps of conjugate gradients towards the least error for this core and U: [a, read]."""
        made, read, taps = self._sizes
        heads = torch.einsum("ob,bat->oat", u, core)
        weighted = heads * self._outputs.importance[:, None, None]

        def back(change: Tensor) -> Tensor:  # of [made, read * taps]
            moved = (change @ self._outputs.moments).view(made, read, taps)
            return torch.einsum("oat,oit->ai", weighted, moved)

        def kernel(rows: Tensor) -> Tensor:
            return torch.einsum("oat,ai->oit", heads, rows).flatten(1)

        residual = back(self._outputs.weight - kernel(v))
        return conjugate_steps(v, residual, lambda direction: back(kernel(direction)), STEPS)


def _solved(inner: Tensor, cross: Tensor) -> Tensor:
    """The weights on inputs of second moments `inner` that make what `cross` moments say: [made, features]."""
    return torch.cholesky_solve(cross.T, damped_cholesky(inner, 1e-9)).T


def balanced(v: Tensor, core: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same product with rows of V, and columns of U, as long as what the core has for them."""
    inner = (core.square().sum((0, 2)).sqrt() / v.norm(dim=1).clamp_min(1e-30)).clamp(1e-12, 1e12).sqrt()  # [a]
    v, core = v * inner[:, None], core / inner[None, :, None]
    outer = (core.square().sum((1, 2)).sqrt() / u.norm(dim=0).clamp_min(1e-30)).clamp(1e-12, 1e12).sqrt()  # [b]
    return v, core / outer[:, None, None], u * outer
