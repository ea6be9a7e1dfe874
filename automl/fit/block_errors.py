"""What each block costs, measured: no curve of its weights could say it, since a block is there or is not.

Errors of removed blocks add up to more than their sum: of eleven blocks of a ResNet-56 to forty times as much. An
allocation adds errors, so that they are scaled by what those of a part of the blocks come to together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence

import numpy as np

from agents import Sensitivity
from search_spaces import NetworkSpace, Point

PART = 4
"""One in so many of the blocks, those of the least errors, is removed at once to see how errors add up."""


def block_errors(
    space: NetworkSpace, known: Collection[str], divergence: Callable[[Point], float] | None
) -> Sensitivity:
    """Gate -> twice the divergence of the network without its block, scaled, and 0 with it: [2].

    All are scaled by one factor, at least 1: what the network without a `PART` of the blocks, at least two, loses, by
    the sum of what it loses without each. `known`: gates that have a curve. `divergence`: of the network at a Point,
    refitted as a trial's is, from the original; None where that cannot be said, and no gate has a curve then. A block
    without which the outputs are not finite is the dearest of all.
    """
    if divergence is None:
        return {}
    gates = [i for i, knob in enumerate(space.knobs) if knob.kind == "gate" and knob.name not in known]
    errors = {place: 2 * divergence(_without(space, [place])) for place in gates}
    dearest = max((error for error in errors.values() if math.isfinite(error)), default=1.0)
    errors = {place: max(error, 0.0) if math.isfinite(error) else dearest for place, error in errors.items()}
    least = sorted(errors, key=lambda place: errors[place])[: max(2, len(errors) // PART)]
    factor, total = 1.0, sum(errors[place] for place in least)
    if len(least) > 1 and total > 0:
        together = 2 * divergence(_without(space, least)) / total
        factor = max(1.0, together) if math.isfinite(together) else 1.0
    return {space.knobs[place].name: np.array([factor * error, 0.0]) for place, error in errors.items()}


def _without(space: NetworkSpace, places: Sequence[int]) -> Point:
    """The original without the blocks of the knobs at `places`."""
    levels = space.original_levels
    for place in places:
        levels[place] = space.knobs[place].levels[0]
    return space.point(levels.tolist())
