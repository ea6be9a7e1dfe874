"""What of a network's cost hangs on each choice: written down once, so that records are read without the network."""

from __future__ import annotations

import numpy as np

from search_spaces import Space


def shares(space: Space) -> dict[str, list[float]]:
    """Cost -> for each knob, in order, the part of the original's that goes when it alone goes to its lowest level.

    Knobs that touch the same layers share costs, so that shares may add up to more than one.
    """
    original = space.original_levels
    lowest = np.array([knob.levels[0] for knob in space.knobs])
    found: dict[str, list[float]] = {}
    for metric in space.metrics:
        whole = space.cost_of_levels(original, metric)
        costs = [
            space.cost_of_levels(np.where(np.arange(len(lowest)) == k, lowest, original), metric)
            for k in range(len(lowest))
        ]
        found[metric] = [round(max(0.0, 1 - cost / whole), 6) if whole else 0.0 for cost in costs]
    return found
