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
        for reader in readers:
            reader.remove(order[-1])
        alive = torch.cat([alive[:least], alive[least + 1 :]])
    return Elimination(np.array(order), np.array(errors))


class _Reader:
    """A layer that reads the channels of a group, with its inverse Hessian; both change as channels go."""

    def __init__(self, layer: nn.Conv2d | nn.Linear, gram: Gram, importance: Tensor, indices: np.ndarray) -> None:
        kernel = layer.weight[0, 0].numel()
        scale = importance.double().sqrt()[:, None]  # makes squared errors of all outputs count alike
        self.weight = layer.weight.detach().double().flatten(1) * scale  # [out, features]
        rows = gram.matrix[0, -1, -1]
        mean = gram.matrix[0, -1, :-1] / rows
        covariance = gram.matrix[0, :-1, :-1] / rows - torch.outer(mean, mean)
        ridge = HESSIAN_RIDGE * float(covariance.diagonal().mean()) + 1e-12
        self.inverse = torch.linalg.inv(covariance + ridge * torch.eye(len(covariance), dtype=torch.float64))
        channels = torch.from_numpy(indices)  # [size, input channels that one channel of the group stands for]
        self.features = (channels[:, :, None] * kernel + torch.arange(kernel)).flatten(1)  # [size, s]

    def increases(self, alive: Tensor) -> Tensor:
        """How much the error grows with the removal of each channel of `alive`: [alive].

        For a channel with features S, the sum over outputs of w_S (H^-1_SS)^-1 w_S (ZipLM, equation 2).
        """
        block = self.features[alive]  # [alive, s]
        inverse = self.inverse[block[:, :, None], block[:, None, :]]  # [alive, s, s]
        weight = self.weight[:, block].permute(1, 2, 0)  # [alive, s, out]
        increases: Tensor = (weight * torch.linalg.solve(inverse, weight)).sum((1, 2))
        return increases

    def remove(self, channel: int) -> None:
        """Remove a channel for good: the other weights make up for it (ZipLM, equations 3 and 4)."""
        lost = self.features[channel]
        rows = self.inverse[lost]  # [s, features]
        solved = torch.linalg.solve(rows[:, lost], rows)  # [s, features]
        self.weight -= self.weight[:, lost] @ solved
        self.inverse -= rows.T @ solved
        self.weight[:, lost] = 0
        self.inverse[lost], self.inverse[:, lost] = 0, 0
        self.inverse[lost, lost] = 1  # keeps the blocks of removed features regular
