"""Which channels of a group matter, by weights and typical activations together."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from automl.evaluation.gram import Gram
from search_spaces import ChannelSpace, Group


def activation_scores(space: ChannelSpace, grams: Mapping[str, Gram]) -> dict[str, np.ndarray]:
    """Group -> norm of what each channel typically contributes to the outputs of its readers: [size].

    The root of the sum over readers and their features of |W column|^2 E[x^2]: the norm of a weight column times
    the root mean square of its input (Sun et al. 2024, "Wanda", equation 1, by channel), from the Gram diagonal.
    Readers without a Gram matrix do not count; a group that has no other keeps its magnitude.
    """
    fallback = space.magnitudes
    return {group.name: _activation(space, group, grams, fallback[group.name]) for group in space.groups}


def _activation(space: ChannelSpace, group: Group, grams: Mapping[str, Gram], fallback: np.ndarray) -> np.ndarray:
    squares = np.zeros(group.size)
    known = False
    for member in group.members:
        layer, _, name = member.parameter.rpartition(".")
        if member.role != "in" or name != "weight" or layer not in grams:
            continue
        known = True
        weight = space.original.get_parameter(member.parameter).detach()  # [out, in / groups, *kernel]
        power = grams[layer].power.float()  # [groups, features]
        by_group = weight.reshape(len(power), -1, power.shape[1])  # [groups, out / groups, features]
        contribution = (by_group**2 * power[:, None]).view_as(weight)
        along = contribution.transpose(0, member.dim).flatten(1).sum(1)  # [entries along the member's dimension]
        squares += along[torch.from_numpy(member.indices)].sum(1).numpy()
    return np.sqrt(squares) if known else fallback
