"""The order in which the channels of a group are removed so that what remains can make up for most of it.

Structured optimal brain surgeon (Hassibi & Stork 1993; by channel: Kurtic et al. 2023, "ZipLM", equations 2 to 4): the
channel goes whose removal raises the least-squares error of its readers least, the readers' weights and inverse
Hessians are updated as if it had gone for good, and so on to the last. One pass gives the order, and with it the
error at every width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from automl.fit.gram import Gram
from search_spaces import Channels, Group

HESSIAN_RIDGE = 1e-3
"""Added to the diagonal of each covariance, relative to its mean."""
LAZY = 64
"""How many features are removed before what their removal changes is worked out in full."""


@dataclass(frozen=True)
class Elimination:
    """What the surgeon found for one group."""

    order: np.ndarray
    """Channels in the order of their removal, the least missed first: [size]."""
    errors: np.ndarray
    """Weighted squared error of the readers' outputs with n channels removed, never falling: [size + 1], from 0."""

    @property
    def scores(self) -> np.ndarray:
        """Scores whose order is the surgeon's, the highest kept longest: [size]."""
        ranks = np.empty(len(self.order))
        ranks[self.order] = np.arange(len(self.order))
        return ranks


def eliminate(
    channels: Channels, group: Group, grams: Mapping[str, Gram], importance: Mapping[str, Tensor]
) -> Elimination | None:
    """Remove the channels of `group` one by one; None if none of its readers has a Gram matrix.

    `importance`: layer -> what a squared error of each of its outputs costs, [out]. All channels are removed, though
    a knob may forbid the last ones. Readers that are grouped convolutions do not count.
    """
    readers = []
    for member in group.members:
        layer, _, name = member.parameter.rpartition(".")
        if member.role == "in" and name == "weight" and layer in grams and layer in importance:
            module = channels.network.get_submodule(layer)
            if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1):
                readers.append(_Reader(module, grams[layer], importance[layer], member.indices))
    if not readers:
        return None
    alive = torch.arange(group.size)
    order, errors = [], [0.0]
    for _ in range(group.size):
        increases = torch.stack([reader.increases(alive) for reader in readers]).sum(0)  # [alive]
        least = int(increases.argmin())
        order.append(int(alive[least]))
        errors.append(errors[-1] + max(float(increases[least]), 0.0))
        alive = torch.cat([alive[:least], alive[least + 1 :]])
        for reader in readers:
            reader.remove(order[-1], alive)
    return Elimination(np.array(order), np.array(errors))


class _Reader:
    """A layer that reads the channels of a group: what is left of its inverse Hessian and of its weights' products.

    Both change with every removal, by matrices of low rank; only the blocks on their diagonals are needed at once, so
    the rest is brought up to date `LAZY` features at a time (as in GPTQ: Frantar et al. 2023, arXiv 2210.17323, section
    3.3), restricted to the channels that are left.
    """

    def __init__(self, layer: nn.Conv2d | nn.Linear, gram: Gram, importance: Tensor, indices: np.ndarray) -> None:
        kernel = layer.weight[0, 0].numel()
        scale = importance.double().sqrt()[:, None]  # makes squared errors of all outputs count alike
        weight = layer.weight.detach().double().flatten(1) * scale  # [out, features]
        rows = gram.matrix[0, -1, -1]
        mean = gram.matrix[0, -1, :-1] / rows
        covariance = gram.matrix[0, :-1, :-1] / rows - torch.outer(mean, mean)
        ridge = HESSIAN_RIDGE * float(covariance.diagonal().mean()) + 1e-12
        covariance.diagonal().add_(ridge)
        channels = torch.from_numpy(indices)  # [size, input channels that one channel of the group stands for]
        features = (channels[:, :, None] * kernel + torch.arange(kernel)).flatten(1)  # [size, s]
        ours = features.flatten()  # other features make up for what goes, and never go
        self._inverse = torch.linalg.inv(covariance)[ours[:, None], ours]  # H^-1, as of the last update
        self._products = weight[:, ours].T @ weight[:, ours]  # W' W, the same
        self._at = torch.arange(len(ours)).view(features.shape)  # [size, s], where in the two a channel's features are
        self._inverses = _blocks(self._inverse, self._at)  # [size, s, s], up to date
        self._squares = _blocks(self._products, self._at)
        self._clear()

    def _clear(self) -> None:
        """Nothing is waiting to be taken off: inverse - rows' solved, products - halves' solved - solved' halves."""
        self._rows = self._solved = self._halves = torch.empty(0, len(self._inverse), dtype=torch.float64)

    def increases(self, alive: Tensor) -> Tensor:
        """How much the error grows with the removal of each channel of `alive`: [alive].

        For a channel with features S, the sum over outputs of w_S (H^-1_SS)^-1 w_S (ZipLM, equation 2).
        """
        inverses, squares = self._inverses[alive], self._squares[alive]
        if inverses.shape[1] == 1:
            return squares[:, 0, 0] / inverses[:, 0, 0]
        increases: Tensor = torch.linalg.solve(inverses, squares).diagonal(dim1=1, dim2=2).sum(1)
        return increases

    def remove(self, channel: int, alive: Tensor) -> None:
        """Remove a channel for good, which leaves `alive`: the other weights make up for it (ZipLM, equations 3, 4).

        With L its features, S = (H^-1_LL)^-1 H^-1_L: the weights lose W_L S, so that their products P = W' W lose
        Z S + S' Z' with Z = P_:L - S' P_LL / 2.
        """
        lost = self._at[channel]
        rows = self._inverse[lost] - self._rows[:, lost].T @ self._solved  # [s, features]
        solved = torch.linalg.solve(rows[:, lost], rows)
        products = (
            self._products[lost] - self._solved[:, lost].T @ self._halves - self._halves[:, lost].T @ self._solved
        )
        halves = products - products[:, lost] @ solved / 2  # Z'
        left, right, half = (part[:, self._at[alive]].permute(1, 2, 0) for part in (rows, solved, halves))
        self._inverses[alive] -= left @ right.mT
        change = half @ right.mT
        self._squares[alive] -= change + change.mT
        self._rows, self._solved, self._halves = (
            torch.cat([waiting, new])
            for waiting, new in ((self._rows, rows), (self._solved, solved), (self._halves, halves))
        )
        if len(self._rows) >= LAZY:
            self._update(alive)

    def _update(self, alive: Tensor) -> None:
        """Take off what waits, of what is left."""
        left = self._at[alive].flatten()
        rows, solved, halves = (waiting[:, left] for waiting in (self._rows, self._solved, self._halves))
        self._inverse = self._inverse[left[:, None], left].addmm_(rows.T, solved, alpha=-1)
        self._products = self._products[left[:, None], left].addmm_(halves.T, solved, alpha=-1)
        self._products.addmm_(solved.T, halves, alpha=-1)
        self._at[alive] = torch.arange(len(left)).view(len(alive), self._at.shape[1])
        self._clear()


def _blocks(matrix: Tensor, at: Tensor) -> Tensor:
    """The blocks of `matrix` on the diagonal: [size, s, s] for features `at` [size, s]."""
    return matrix[at[:, :, None], at[:, None, :]]
