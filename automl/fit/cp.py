"""Data-aware canonical polyadic (CP) factors: a sum of products of four vectors with the least error of the outputs.

A kernel W of [made, read, kh, kw] becomes the sum over r of A[o, r] V[r, i] P[r, y] Q[r, x] (Lebedev et al. 2015, with
both dimensions of the kernel apart), fitted by alternating least squares on the data.

A sum of products may come ever closer to a kernel while two of its terms grow without bound and cancel each other:
of tensors a best one of low rank need not exist (de Silva & Lim 2008, "Tensor rank and the ill-posedness of the best
low-rank approximation problem"), and such factors are lost in float32 and when they are trained (Lebedev et al. 2015,
section 4; Phan et al. 2020, "Stable low-rank tensor decomposition for compression of convolutional neural network").
Here the start has no such terms, since its products are orthogonal; and whenever A is solved, each term's output pays
for its power (`RIDGE`), so that terms that cancel each other are dearer than what they gain.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.fit.alternating import Outputs, conjugate_steps
from automl.fit.separable import Separable
from search_spaces.operators.factors import products_of

ROUNDS, QUICK = 6, 2
"""So often V, P and Q are fitted again and A after them; and where only the error is asked for."""
STEPS = (8, 3, 3)
"""Of conjugate gradients for V, P and Q each time."""
RIDGE = 1e-3
"""What the power of a term's outputs costs, relative to their error."""

Factors = tuple[Tensor, Tensor, Tensor, Tensor]
"""The weights of four convolutions, V: [rank, read, 1, 1], P: [rank, 1, kh, 1], Q: [rank, 1, 1, kw], which work within
each channel, and A: [made, rank, 1, 1]."""


class Cp:
    """The factors of one kernel at any rank. They begin as the largest products in its separable factors."""

    def __init__(
        self, weight: Tensor, second_moments: Tensor | None, importance: Tensor | None, mean: Tensor | None
    ) -> None:
        """As for `Outputs`."""
        self._shape = weight.shape
        self._outputs = Outputs(weight, second_moments, importance, mean)
        self._cross = self._outputs.weight @ self._outputs.moments  # [made, features]
        self._separable = Separable(weight, second_moments, importance, mean).start()
        self._known: dict[int, Factors] = {}

    def weights(self, rank: int) -> Factors:
        """V, P, Q and A, all four vectors of each term as long."""
        if rank not in self._known:
            self._known[rank] = self._fitted(rank, ROUNDS)
        return self._known[rank]

    def error(self, rank: int) -> float:
        """The squared error of the outputs at `rank`, weighted by their importance, or a bound close above it."""
        return self._outputs.error(self.kernel(self._known.get(rank) or self._fitted(rank, QUICK)))

    def shift(self, rank: int) -> Tensor:
        """What the bias has to gain, since mean outputs are not what they were: [made]."""
        return self._outputs.shift(self.kernel(self.weights(rank)))

    @staticmethod
    def kernel(factors: Factors) -> Tensor:
        """What they stand for: [made, features]."""
        v, p, q, a = factors
        return a.flatten(1) @ (v * p * q).flatten(1)

    def _fitted(self, rank: int, rounds: int) -> Factors:
        *terms, _ = products_of(self._shape, *self._separable, rank)
        a = self._outer(terms)
        for _ in range(rounds):
            for place, steps in enumerate(STEPS):
                terms[place] = self._along(place, terms, a, steps)
            a = self._outer(terms)
        return balanced(terms, a)

    def _outer(self, terms: list[Tensor]) -> Tensor:
        """The A of the least error and power of terms: [made, rank]."""
        v, p, q = terms
        each = (v * p * q).flatten(1)  # what each term makes of the inputs: [rank, features]
        inner = each @ self._outputs.moments @ each.T
        root = inner.diagonal().clamp_min(1e-30).sqrt()
        inner = inner / root[:, None] / root + RIDGE * torch.eye(len(each), dtype=torch.float64)
        cross = (self._cross @ each.T) / root
        return torch.cholesky_solve(cross.T, torch.linalg.cholesky(inner)).T / root

    def _along(self, place: int, terms: list[Tensor], a: Tensor, steps: int) -> Tensor:
        """V, P or Q after some steps of conjugate gradients towards the least error for the other factors."""
        x = terms[place]
        one, other = (part for i, part in enumerate(terms) if i != place)
        rest = one * other
        weighted = (a * self._outputs.importance[:, None]).T  # [rank, made]
        summed = [dim for dim in (1, 2, 3) if dim != place + 1]

        def made(part: Tensor) -> Tensor:  # [made, features]
            return a @ (part * rest).flatten(1)

        def back(change: Tensor) -> Tensor:  # of [made, features]
            moved = (weighted @ (change @ self._outputs.moments)).view(len(a.T), *self._shape[1:])
            return (moved * rest).sum(summed, keepdim=True)

        residual = back(self._outputs.weight - made(x))
        return conjugate_steps(x, residual, lambda direction: back(made(direction)), steps)


def balanced(terms: list[Tensor], a: Tensor) -> Factors:
    """The same terms with all four vectors of each as long; `a`: [made, rank]."""
    parts = [*(part.flatten(1) for part in terms), a.T]
    lengths = torch.stack([part.norm(dim=1) for part in parts]).clamp_min(1e-30)  # [4, rank]
    scales = lengths.prod(0).pow(0.25) / lengths
    v, p, q = (part * scale[:, None, None, None] for part, scale in zip(terms, scales[:3], strict=True))
    return v, p, q, (a * scales[3])[:, :, None, None]
