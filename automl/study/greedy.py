"""Global greedy selection: the channels of least energy in the whole network go until a budget is met."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import nn

from automl.training.methods.coupled import CoupledChannels
from search_spaces import ChannelsStep, NetworkSpace, Point


def global_greedy(space: NetworkSpace, scores: Mapping[str, np.ndarray], limits: Mapping[str, float]) -> Point:
    """The Point left when channels go in ascending order of their scores, of all groups together, until `limits` hold.

    The global greedy pruning of Li et al. 2019 (OICSR), with their energies as scores: the widths of all layers fall
    out of one order. A knob goes from level to level, each step when the most important channel in it is due, and never
    below its lowest. What the last step saved beyond need is spent: steps are taken back, the last first, where the
    limits allow, until no knob can rise.

    Args:
        space: the channels; in a narrowed space, those it has left.
        scores: group -> importance of each channel, [size]; `space.plan(point, scores)` keeps those meant here.
        limits: metric -> upper limit; without any, the network stays as it is.

    Raises `InfeasibleBudgetError` if no network of the space keeps the limits.
    """
    space.require_feasible(limits)
    left = space.plan(space.point(space.highest.tolist()), scores).get(ChannelsStep).kept
    steps = []  # (score of the most important channel that goes, knob, level before, level after)
    for t, knob in enumerate(space.knobs):
        descending = -np.sort(-np.asarray(scores[knob.name])[list(left[knob.name])])
        for before, after in zip(knob.levels[:0:-1], knob.levels[-2::-1], strict=True):
            steps.append((float(descending[after]), t, before, after))
    steps.sort(key=lambda step: step[0])  # stable, so a knob's own steps stay in order
    levels = space.highest
    taken = 0
    while not space.within(levels, limits):
        _, t, _, after = steps[taken]
        levels[t] = after
        taken += 1
    for _, t, before, after in reversed(steps[:taken]):
        if levels[t] == after:  # else a later step of this knob could not be taken back
            levels[t] = before
            if not space.within(levels, limits):
                levels[t] = after
    return space.point(levels.tolist())


def energies(space: NetworkSpace, network: nn.Module | None = None) -> dict[str, np.ndarray]:
    """Group -> energy of each channel, the squared norm of all weights that make or read it: [size].

    The importance of OICSR (Li et al. 2019). `network`: one of the shape of `space.original`, which is
    the default.
    """
    channels = CoupledChannels(space)
    return channels.by_group(channels.squares(network or space.original))


def relative(scores: Mapping[str, np.ndarray], top: int = 1) -> dict[str, np.ndarray]:
    """Scores divided by the mean of the `top` highest of their group, so that groups of other layers compare.

    The score by which Fang et al. 2023 (DepGraph) prune after their sparse training. A group of zeros stays one.
    """
    means = {name: float(np.sort(values)[-top:].mean()) for name, values in scores.items()}
    return {name: values / (means[name] or 1.0) for name, values in scores.items()}
