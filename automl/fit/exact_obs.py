"""Weights removed one by one, each time the one that the others of its row can make up for best.

The optimal brain surgeon (Hassibi & Stork 1993) for each row of a layer, exactly: Frantar & Alistarh 2022, "Optimal
Brain Compression", arXiv 2208.11580, Algorithm 1 (ExactOBS), its choice over all rows of a layer by the losses of their
removals, its groups of N:M and its blocks. One pass gives the order, and with it the error at every count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from automl.fit.moments import damped_cholesky
from search_spaces.operators.patterns import Pattern

DAMPING = 1e-3
"""Added to the diagonal of the second moments, relative to its mean."""
LAZY = 64
"""How many features are removed before what their removal changes is worked out in full."""
ENTRIES = 16_000_000
"""Entries of inverse Hessians that exist at once: 128 MB."""


@dataclass(frozen=True)
class Removals:
    """In which order weights went, and what each removal cost: like the weights, [rows, features] each, float64."""

    scores: list[Tensor]
    """The later a weight went the higher, from 0, over all parts; those that stay are the highest."""
    losses: list[Tensor]
    """How much the squared error of the outputs grew, a weight's share of its unit; 0 for those that stay. Those of a
    row that went add up to the least error that its others can leave."""


def remove_in_turn(
    weights: Sequence[Tensor],
    moments: Sequence[Tensor],
    pattern: Pattern,
    orders: Sequence[Tensor] | None = None,
    *,
    share: float = 0.0,
) -> Removals:
    """Remove the weights of a layer, all of them, or of N:M all that may go.

    The row goes on whose next removal costs least. `orders`: the order that is given instead, of which the losses are
    then worked out: the highest goes first.

    Args:
        weights: in parts, such as those of each group of a convolution, [rows, features], in an order of features that
            the pattern has. Rows count by their squares, and so may be scaled by what an error of their
            output costs.
        moments: second moments of the inputs of each part, [features, features].
        pattern: must fill the parts (`Pattern.fills`).
        orders: like `weights`, whole numbers, over all parts.
        share: of what a row has left this share is chosen at once, at least one unit; what that costs, and what the
            others make up for, is exact all the same.
    """
    losses, units = [], []
    for i, (weight, second) in enumerate(zip(weights, moments, strict=True)):
        inverse = torch.cholesky_inverse(damped_cholesky(second, DAMPING))
        bands = weight.double().view(-1, pattern.rows, weight.shape[1])
        rank = None if orders is None else orders[i].view(bands.shape)
        at = max(1, ENTRIES // inverse.numel())
        for start in range(0, len(bands), at):
            part = slice(start, start + at)
            found = _Bands(bands[part], inverse, pattern, None if rank is None else rank[part]).run(share)
            losses.append(found[0])
            units.append(found[1])
    scores, costs = _joined(losses, units, pattern, max(weight.shape[1] for weight in weights))
    lengths = [len(weight) for weight in weights]
    of_parts = (zip(table.split(lengths), weights, strict=True) for table in (scores, costs))
    return Removals(*([rows[:, : weight.shape[1]] for rows, weight in found] for found in of_parts))


def _joined(
    losses: Sequence[Tensor], units: Sequence[Tensor], pattern: Pattern, features: int
) -> tuple[Tensor, Tensor]:
    """Scores and losses of all rows, [rows, features], from those of bands of rows: [bands, steps] each.

    Of each band comes the next removal in turn, of all these the cheapest first: as if sorted by the highest loss so
    far.
    """
    steps = max(x.shape[1] for x in losses)
    loss, unit = (
        torch.cat([torch.nn.functional.pad(x, (0, steps - x.shape[1]), value=fill) for x in parts])
        for parts, fill in ((losses, 0.0), (units, -1))
    )  # [bands, steps]
    went = unit >= 0
    keys = loss.cummax(1).values.masked_fill(~went, torch.inf)
    place = torch.empty(loss.numel(), dtype=torch.float64)
    place[torch.sort(keys.flatten(), stable=True).indices] = torch.arange(loss.numel(), dtype=torch.float64)
    bands, across = len(loss), features // pattern.columns
    scores = torch.full((bands, across), float(loss.numel()), dtype=torch.float64)
    costs = torch.zeros(bands, across, dtype=torch.float64)
    rows = torch.arange(bands)[:, None].expand_as(unit)[went]
    scores[rows, unit[went]] = place.view_as(loss)[went]
    costs[rows, unit[went]] = loss[went] / pattern.unit

    def spread(table: Tensor) -> Tensor:
        wide = table[:, None, :, None].expand(-1, pattern.rows, -1, pattern.columns)
        return wide.reshape(bands * pattern.rows, features)

    return spread(scores), spread(costs)


class _Bands:
    """Bands of rows, [bands, rows, features], each of which loses unit after unit: a weight, or a block of weights.

    The rows of a band lose the same features, and so have one inverse Hessian. A removal takes u^T u off it; that is
    done `LAZY` features at a time, and only for features that are left, while what the next choice asks for is up to
    date: the weights, and the blocks on the diagonals.
    """

    def __init__(self, weight: Tensor, inverse: Tensor, pattern: Pattern, order: Tensor | None) -> None:
        bands, _, features = weight.shape
        self.width = pattern.columns
        self.of = pattern.of
        self.weight = weight.clone()
        self.inverse = inverse.expand(bands, -1, -1)
        self.units = torch.arange(features // self.width).expand(bands, -1)  # [bands, units], of the whole row
        self.gone = torch.zeros_like(self.units, dtype=torch.bool)
        blocks = inverse.view(-1, self.width, features // self.width, self.width).diagonal(dim1=0, dim2=2)
        self.blocks = blocks.permute(2, 0, 1).expand(bands, -1, -1, -1).clone()  # [bands, units, width, width]
        self.waiting = torch.empty(bands, 0, features, dtype=torch.float64)
        self.order = None if order is None else order[:, 0].view(bands, -1, self.width)[..., 0].double()
        self.left: Tensor | None = None
        self.zero = (weight == 0).all(1)
        if pattern.grouped and order is None:
            zeros = self.zero.view(bands, -1, self.of).sum(2)
            self.left = (self.of - pattern.most - zeros).clamp_min(0)  # [bands, groups], how many more may go

    def run(self, share: float) -> tuple[Tensor, Tensor]:
        """Remove what may go: the loss of each removal and the unit that went, -1 for none: [bands, steps] each."""
        losses, units = [self.weight.new_empty(len(self.weight), 0)], [self.units[:, :0]]
        while left := int((~self.gone).sum(1).max()):
            scores, count = self._scores(), max(1, int(share * left))
            least = scores.argmin(1, keepdim=True) if count == 1 else scores.argsort(dim=1, stable=True)[:, :count]
            goes = scores.gather(1, least).isfinite()
            if not goes.any():
                break
            units.append(torch.where(goes, self.units.gather(1, least), -1))
            losses.append(self._remove(least, goes))
            if self.waiting.shape[1] >= LAZY:
                self._update()
        return torch.cat(losses, 1), torch.cat(units, 1)

    def _scores(self) -> Tensor:
        """How much the error grows with the removal of each unit, infinitely where it may not go: [bands, units]."""
        if self.order is not None:
            return (-self.order).masked_fill(self.gone, torch.inf)
        if self.width == 1:
            scores = self.weight.square().sum(1) / self.blocks[..., 0, 0]
        else:
            parts = self.weight.unflatten(2, (-1, self.width)).permute(0, 2, 3, 1)  # [bands, units, width, rows]
            scores = (torch.linalg.solve(self.blocks, parts) * parts).sum((2, 3))
        if self.left is not None:  # of N:M
            full = self.left.gather(1, self.units // self.of) == 0
            scores = scores.masked_fill(full, torch.inf).masked_fill(self.zero, -1.0).masked_fill(self.gone, torch.inf)
            group = self.units // self.of  # of which one goes at a time
            lowest = torch.full(self.left.shape, torch.inf, dtype=torch.float64)
            lowest = lowest.scatter_reduce(1, group, scores, "amin").gather(1, group)
            scores = scores.masked_fill(scores > lowest, torch.inf)
        return scores.masked_fill(self.gone, torch.inf)

    def _remove(self, at: Tensor, goes: Tensor) -> Tensor:
        """Remove the units `at` of each band, those that go, both [bands, n]; what each costs: [bands, n].

        With u = K^-1 H^-1_p for features p, K K^T = (H^-1)_pp and c = K^-1 w_p^T the weights lose c^T u, the inverse
        loses u^T u, and the error grows by |c|^2: the paper's formulas for p alone and for blocks, the rows of a band
        added up.
        """
        features = (at[:, :, None] * self.width + torch.arange(self.width)).flatten(1)  # [bands, p]
        go = goes.repeat_interleave(self.width, 1)
        rows = self.inverse.gather(1, features[:, :, None].expand(-1, -1, self.inverse.shape[2]))
        rows -= self.waiting.gather(2, features[:, None].expand(-1, self.waiting.shape[1], -1)).mT @ self.waiting
        inner = rows.gather(2, features[:, None].expand(-1, features.shape[1], -1))  # [bands, p, p]
        identity = torch.eye(features.shape[1], dtype=torch.float64)
        lower = torch.linalg.cholesky(torch.where(go[:, :, None] & go[:, None], inner, identity))
        lost = self.weight.gather(2, features[:, None].expand(-1, self.weight.shape[1], -1)) * go[:, None]
        solved = torch.linalg.solve_triangular(lower, rows * go[:, :, None], upper=False)  # u: [bands, p, features]
        costs = torch.linalg.solve_triangular(lower, lost.mT, upper=False)  # c: [bands, p, rows]
        self.weight -= costs.mT @ solved
        self.gone.scatter_(1, at, self.gone.gather(1, at) | goes)
        if self.width == 1:
            self.blocks[..., 0, 0] -= solved.square().sum(1)
        else:
            parts = solved.unflatten(2, (-1, self.width)).transpose(1, 2)  # [bands, units, p, width]
            self.blocks -= parts.mT @ parts
            self.blocks[self.gone] = torch.eye(self.width, dtype=torch.float64)  # nobody reads it, but it is solved
        if self.left is not None:
            charged = (goes & ~self.zero.gather(1, at)).long()
            self.left.scatter_add_(1, self.units.gather(1, at) // self.of, -charged)
        self.waiting = torch.cat([self.waiting, solved], 1)
        losses: Tensor = costs.square().sum(2).unflatten(1, (-1, self.width)).sum(2)
        return losses

    def _update(self) -> None:
        """Take off what waits, and leave out what is gone."""
        kept = int((~self.gone).sum(1).max())
        which = self.gone.to(torch.int8).argsort(dim=1, stable=True)[:, :kept]  # [bands, kept]
        features = (which[:, :, None] * self.width + torch.arange(self.width)).flatten(1)
        band = torch.arange(len(which))[:, None]
        inverse = self.inverse[band[:, None], features[:, :, None], features[:, None]]
        waiting = self.waiting.gather(2, features[:, None].expand(-1, self.waiting.shape[1], -1))
        self.inverse = inverse.baddbmm_(waiting.mT, waiting, alpha=-1)
        self.weight = self.weight.gather(2, features[:, None].expand(-1, self.weight.shape[1], -1))
        self.blocks = self.blocks[band, which]
        self.units, self.gone, self.zero = (x.gather(1, which) for x in (self.units, self.gone, self.zero))
        self.order = None if self.order is None else self.order.gather(1, which)
        self.waiting = waiting[:, :0]
