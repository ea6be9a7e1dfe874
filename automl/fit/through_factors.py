"""What the factors of a layer read, from what the layer reads; and what errors of their outputs cost."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor


def moments_between(matrix: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """The augmented sums of the rows that each factor multiplies: [groups, features + 1, features + 1] each.

    `matrix`: those of the layer, [1, features + 1, features + 1]; `weights`: of its factors, in the order in which they
    are called, [made, read of a group, *kernel]. Where a factor is applied at several places of the layer's kernel the
    mean is taken of those. Features of a patch are followed as linear functions of the layer's.
    """
    sizes = [tuple(weight.shape[2:]) for weight in weights]
    whole = [1 + sum(size[dim] - 1 for size in sizes) for dim in range(len(sizes[0]))]
    n = matrix.shape[1] - 1
    # What each channel is at each place of the kernel: [channels, *places, features].
    values = torch.eye(n, dtype=torch.float64).view(-1, *whole, n)
    found = []
    for weight, size in zip(weights, sizes, strict=True):
        weight = weight.double()
        groups = len(values) // weight.shape[1]
        patches = _patches(values, size)  # [places, channels * kernel, features]
        found.append(_sums(matrix[0], patches, groups))
        made, kernel = len(weight) // groups, weight[0].numel()
        parts = patches.reshape(len(patches), groups, kernel, n)
        values = torch.einsum("gok,pgkn->gopn", weight.reshape(groups, made, kernel), parts)
        whole = [all_ - own + 1 for all_, own in zip(whole, size, strict=True)]
        values = values.reshape(len(weight), *whole, n)
    return found


def costs_between(cost: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """What a squared error of each output of each factor costs, [out] each; `cost`: of the layer's."""
    costs = [cost]
    for before, weight in reversed(list(pairwise(weights))):
        power = weight.double().square().reshape(*weight.shape[:2], -1).sum(2)  # [made, read of a group]
        within = len(before) > weight.shape[1]  # each channel is read by the one that it makes
        costs.append(power[:, 0] * costs[-1] if within else power.T @ costs[-1])
    return costs[::-1]


def _patches(values: Tensor, size: Sequence[int]) -> Tensor:
    """The patches of a kernel of this size at each place: [places, channels * kernel, features]."""
    windows = values
    for dim, width in enumerate(size, 1):
        windows = windows.unfold(dim, width, 1)
    # [channels, *places, features, *kernel] -> places first, features last
    dims = len(size)
    order = [*range(1, dims + 1), 0, *range(dims + 2, 2 * dims + 2), dims + 1]
    windows = windows.permute(order)
    places = windows.shape[:dims].numel()
    return windows.reshape(places, -1, values.shape[-1])


def _sums(matrix: Tensor, patches: Tensor, groups: int) -> Tensor:
    """The augmented sums of the rows that `patches`, of so many groups of features, are: their mean over places."""
    places, features, n = patches.shape
    parts = patches.view(places, groups, -1, n)
    second = torch.einsum("pgan,nm,pgbm->gab", parts, matrix[:-1, :-1], parts) / places
    first = torch.einsum("pgan,n->ga", parts, matrix[:-1, -1]) / places
    out = matrix.new_zeros(groups, features // groups + 1, features // groups + 1)
    out[:, :-1, :-1], out[:, :-1, -1], out[:, -1, :-1], out[:, -1, -1] = second, first, first, matrix[-1, -1]
    return out
