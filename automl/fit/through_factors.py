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
    # The first factor reads features of the layer as they are, which are only to be looked up.
    places = _patches(torch.arange(n).view(-1, *whole, 1), sizes[0])[..., 0]  # [places, features]
    found = [_chosen(matrix[0], places, places.shape[1] // weights[0][0].numel())]
    # What each channel is at each place of the kernel: [channels, *places, features].
    values = torch.eye(n, dtype=torch.float64).view(-1, *whole, n)
    for (before, weight), (own, size) in zip(pairwise(weights), pairwise(sizes), strict=True):
        values = _made(values, before.double(), own)
        found.append(_sums(matrix[0], _patches(values, size), len(values) // weight.shape[1]))
    return found


def costs_between(cost: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """What a squared error of each output of each factor costs, [out] each; `cost`: of the layer's."""
    costs = [cost]
    for before, weight in reversed(list(pairwise(weights))):
        power = weight.double().square().reshape(*weight.shape[:2], -1).sum(2)  # [made, read of a group]
        within = len(before) > weight.shape[1]  # each channel is read by the one that it makes
        costs.append(power[:, 0] * costs[-1] if within else power.T @ costs[-1])
    return costs[::-1]


def _made(values: Tensor, weight: Tensor, size: Sequence[int]) -> Tensor:
    """What the outputs of a factor are, [made, *places, features], where its inputs are `values`."""
    channels, *whole, n = values.shape
    groups, kernel = channels // weight.shape[1], weight[0].numel()
    parts = _patches(values, size).view(-1, groups, kernel, n)
    made = torch.einsum("gok,pgkn->gopn", weight.reshape(groups, -1, kernel), parts)
    return made.reshape(len(weight), *(all_ - own + 1 for all_, own in zip(whole, size, strict=True)), n)


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
    places, _, n = patches.shape
    parts = patches.view(places, groups, -1, n)
    second = (parts @ matrix[:-1, :-1] @ parts.mT).mean(0)
    return _augmented(second, (parts @ matrix[:-1, -1]).mean(0), matrix[-1, -1])


def _chosen(matrix: Tensor, places: Tensor, groups: int) -> Tensor:
    """The same where the features of each patch are these of `matrix`: [places, features]."""
    parts = places.view(len(places), groups, -1)
    return _augmented(matrix[parts[..., None], parts[..., None, :]].mean(0), matrix[parts, -1].mean(0), matrix[-1, -1])


def _augmented(second: Tensor, first: Tensor, rows: Tensor) -> Tensor:
    """Sums of products, [groups, n, n], of values, [groups, n], and the number of rows as one matrix a group."""
    out = second.new_zeros(len(second), second.shape[1] + 1, second.shape[1] + 1)
    out[:, :-1, :-1], out[:, :-1, -1], out[:, -1, :-1], out[:, -1, -1] = second, first, first, rows
    return out
