"""Two goals at once, whose best compromises are a front: the objective, and how much of the budget a Point takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from agents.random_search import random_point
from search_spaces import Point, Space


class Load:
    """Of each Point the largest of cost / limit; without limits its first cost as a part of the whole network's."""

    def __init__(self, space: Space, limits: Mapping[str, float]) -> None:
        self.space = space
        self.units = dict(limits) or {
            metric: space.cost(space.original_point, metric) or 1.0 for metric in space.metrics[:1]
        }

    def __call__(self, point: Point) -> float:
        """Known exactly, before anything is tried."""
        return max(self.space.cost(point, metric) / unit for metric, unit in self.units.items())


def random_load_point(space: Space, limits: Mapping[str, float], rng: np.random.Generator) -> Point:
    """A random Point on a random part of the budget: uniform from what the smallest network takes up to the limits."""
    part, lowest = rng.random(), space.least_costs(limits)
    return random_point(space, {m: lowest[m] + part * (limit - lowest[m]) for m, limit in limits.items()}, rng)


def dominators(utilities: Sequence[float] | np.ndarray, loads: Sequence[float]) -> np.ndarray:
    """How many of the others are at least as good in both, and better in one: [n]. Those with none are the front."""
    utility, load = np.array(utilities), np.array(loads)
    as_good = (utility[:, None] >= utility) & (load[:, None] <= load)  # [n, n]: the row as the column
    better: np.ndarray = (as_good & ~as_good.T).sum(axis=0)
    return better
