"""What each block alone costs, measured: no curve of its weights could say it, since a block is there or is not."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import numpy as np

from agents import Sensitivity
from search_spaces import NetworkSpace, Point


def block_errors(
    space: NetworkSpace, known: Collection[str], divergence: Callable[[Point], float] | None
) -> Sensitivity:
    """Gate -> twice the divergence of the network without its block, and 0 with it: [2].

    `known`: gates that have a curve. `divergence`: of the network at a Point, refitted as a trial's is, from the
    original; None where that cannot be said, and no gate has a curve then. A block without which the outputs are not
    finite is the dearest of all.
    """
    if divergence is None:
        return {}
    found = {}
    for place, knob in enumerate(space.knobs):
        if knob.kind == "gate" and knob.name not in known:
            levels = space.original_levels
            levels[place] = knob.levels[0]
            found[knob.name] = 2 * divergence(space.point(levels.tolist()))
    dearest = max((error for error in found.values() if math.isfinite(error)), default=1.0)
    return {
        name: np.array([max(error, 0.0) if math.isfinite(error) else dearest, 0.0]) for name, error in found.items()
    }
