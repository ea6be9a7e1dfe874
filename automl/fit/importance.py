"""Which channels of a group matter, by weights with typical activations or with gradients."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from automl.fit.gram import Gram
from automl.tasks.problem import Problem
from automl.util.modes import differentiating
from search_spaces import Channels, Group


def activation_scores(channels: Channels, grams: Mapping[str, Gram]) -> dict[str, np.ndarray]:
    """Group -> norm of what each channel typically contributes to the outputs of its readers: [size].

    The root of the sum over readers and their features of |W column|^2 E[x^2]: the norm of a weight column times
    the root mean square of its input (Sun et al. 2024, "Wanda", equation 1, by channel), from the Gram diagonal.
    Readers without a Gram matrix do not count; a group that has no other keeps its magnitude.
    """
    fallback = channels.magnitudes
    return {group.name: _activation(channels, group, grams, fallback[group.name]) for group in channels.groups}


def _activation(channels: Channels, group: Group, grams: Mapping[str, Gram], fallback: np.ndarray) -> np.ndarray:
    squares = np.zeros(group.size)
    known = False
    for member in group.members:
        layer, _, name = member.parameter.rpartition(".")
        if member.role != "in" or name != "weight" or layer not in grams:
            continue
        known = True
        weight = channels.network.get_parameter(member.parameter).detach()  # [out, in / groups, *kernel]
        power = grams[layer].power.float()  # [groups, features]
        by_group = weight.reshape(len(power), -1, power.shape[1])  # [groups, out / groups, features]
        contribution = (by_group**2 * power[:, None]).view_as(weight)
        along = contribution.transpose(0, member.dim).flatten(1).sum(1)  # [entries along the member's dimension]
        squares += along[torch.from_numpy(member.indices)].sum(1).numpy()
    return np.sqrt(squares) if known else fallback


def taylor_scores(channels: Channels, problem: Problem) -> dict[str, np.ndarray]:
    """Group -> how much the loss changes to first order if a channel's weights are zeroed, squared and summed: [size].

    The squared sum of gradient times weight over all entries of a channel (Molchanov et al. 2019, "Importance
    estimation for neural network pruning", equation 8), added up over the calibration batches.
    """
    totals = {group.name: np.zeros(group.size) for group in channels.groups}
    parameters = dict(channels.network.named_parameters())
    with differentiating(channels.network):
        for inputs, targets in problem.calibration:
            loss = problem.loss(channels.network(*inputs), targets).mean()
            found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            gradients = dict(zip(parameters, found, strict=True))
            for group in channels.groups:
                totals[group.name] += _first_order(group, parameters, gradients) ** 2
    return totals


def _first_order(group: Group, parameters: Mapping[str, Tensor], gradients: Mapping[str, Tensor | None]) -> np.ndarray:
    """Sum of gradient times parameter over what belongs to each channel of a group: [size]."""
    change = np.zeros(group.size)
    for member in group.members:
        gradient = gradients.get(member.parameter)
        if gradient is not None:  # buffers have none
            product = (gradient * parameters[member.parameter]).detach().movedim(member.dim, 0)
            along = product.reshape(len(product), -1).sum(1)  # [entries along the member's dimension]
            change += along[torch.from_numpy(member.indices)].sum(1).numpy()
    return change
