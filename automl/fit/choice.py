"""Which channels of a space stay, and what narrowing costs: worked out once from the calibration samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from agents import Sensitivity
from automl.config.evaluation import Importance
from automl.fit.fisher import output_fisher
from automl.fit.gram import Gram, gather_grams, supported
from automl.fit.importance import activation_scores, taylor_scores
from automl.fit.reconstruction import kept_in_groups
from automl.fit.sensitivity import sensitivity_curves
from automl.fit.surgeon import Elimination, eliminate
from automl.tasks.problem import Problem
from search_spaces import ChannelSpace


@dataclass(frozen=True)
class Choice:
    """What was found of the channels of a space."""

    scores: dict[str, np.ndarray]
    """Group -> what each channel matters: [size]; the highest stay."""
    sensitivity: Sensitivity | None = None
    """What narrowing each group alone costs, where that came along."""


def gather(space: ChannelSpace, problem: Problem) -> dict[str, Gram]:
    """Gram matrices of the layers that can lose some of the inputs of a group."""
    smallest = space.slices(space.plan(space.point(space.narrowest.tolist())))
    names = [
        name
        for name, kept in smallest.items()
        if supported(layer := space.original.get_submodule(name)) and kept_in_groups(layer, kept.kept_in)
    ]
    return gather_grams(space.original, names, problem.calibration)


def choose(space: ChannelSpace, problem: Problem, importance: Importance, grams: Mapping[str, Gram]) -> Choice:
    """The scores of every group by that importance; the surgeon, who tells what narrowing costs too, tells both."""
    if importance == "magnitude":
        return Choice(space.magnitudes)
    if importance == "activation":
        return Choice(activation_scores(space, grams))
    if importance == "taylor":
        return Choice(taylor_scores(space, problem))
    found, magnitudes = _eliminate(space, problem, grams), space.magnitudes
    scores = {name: magnitudes[name] if one is None else one.scores for name, one in found.items()}
    return Choice(scores, sensitivity_curves(space, found))


def sensitivity(space: ChannelSpace, problem: Problem) -> Sensitivity:
    """What narrowing each group alone costs by the surgeon, whatever the scores are by."""
    return sensitivity_curves(space, _eliminate(space, problem, gather(space, problem)))


def _eliminate(space: ChannelSpace, problem: Problem, grams: Mapping[str, Gram]) -> dict[str, Elimination | None]:
    fisher = output_fisher(space.original, list(grams), problem)
    return {group.name: eliminate(space, group, grams, fisher) for group in space.groups}
