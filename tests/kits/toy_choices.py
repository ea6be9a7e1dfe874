"""A chain of parts of several kinds as a space of choices, small enough to be tried whole, with a made-up accuracy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product

import numpy as np

from search_spaces import ChoiceSpace, Knob

KINDS = ("none", "plain", "fire")


class ToyChoiceSpace(ChoiceSpace):
    """`parts` parts, each of a kind, a stride and a width; the last two make no difference where the kind is none.

    A plain part is cheap for few channels, a fire part for many, and a stride makes all that follows cheaper: no kind
    is the cheapest whatever the others are, nor is one cheaper in MACs always cheaper in parameters.
    """

    metrics = ("macs", "params")
    feature_names = ("index", "levels")

    def __init__(self, parts: int = 3, widths: tuple[int, ...] = (4, 6, 12), size: int = 8) -> None:
        self.n_parts, self.start = parts, (3, size)
        kinds = [Knob(f"kind{i}", (0, 1, 2), "choice", kind="choice", labels=KINDS) for i in range(parts)]
        strides = [Knob(f"stride{i}", (1, 2), "stride", kind="choice") for i in range(parts)]
        self.knobs = (*kinds, *strides, *(Knob(f"width{i}", widths) for i in range(parts)))

    def active(self, levels: np.ndarray) -> np.ndarray:
        there = np.asarray(levels)[: self.n_parts] > 0
        return np.concatenate([np.ones(self.n_parts, dtype=bool), there, there])

    def part(self, kind: int, stride: int, width: int, state: tuple[int, int]):
        """What one part costs, and what it makes of `state`: channels and size."""
        channels, size = state
        if kind == 0:
            return (0.0, 0.0), state
        size = max(size // stride, 1)
        weights = 9 * channels * width if kind == 1 else 150 + channels * width
        return (float(weights * size**2), float(weights + 5 * width)), (width, size)

    def ways(self, part: int, state, levels: np.ndarray, settled: np.ndarray) -> Iterable:
        places = [part, part + self.n_parts, part + 2 * self.n_parts]
        open_levels = [self.knobs[t].levels for t in places[:2]] + [self.knobs[places[2]].levels[:1]]
        own = [(int(levels[t]),) if settled[t] else legal for t, legal in zip(places, open_levels, strict=True)]
        for kind, stride, width in product(*own):
            yield self.part(kind, stride, width, state)

    def cost_of_levels(self, levels: np.ndarray, metric: str) -> float:
        kinds, strides, widths = np.asarray(levels).reshape(3, self.n_parts).tolist()
        total, state = 0.0, self.start
        for own in zip(kinds, strides, widths, strict=True):
            costs, state = self.part(*own, state)
            total += costs[self.metrics.index(metric)]
        return total

    def features(self) -> np.ndarray:
        n = len(self.knobs)
        return np.stack([np.arange(n) / (n - 1), [len(knob.levels) / 3 for knob in self.knobs]], axis=1)


class ToyChoiceAccuracy:
    """Each part is worth something by its kind and width, a stride costs something; the best is to be found."""

    best = 0.9

    def __init__(self, space: ToyChoiceSpace) -> None:
        self.space = space
        self.worth = np.random.default_rng(3).uniform(0.0, 0.2, (space.n_parts, len(KINDS)))

    @property
    def limits(self) -> Mapping[str, float]:
        """A budget that about a fifth of the networks keep."""
        return {"macs": 4000.0}

    def __call__(self, point) -> float:
        total = 0.3
        for i in range(self.space.n_parts):
            kind = point[f"kind{i}"]
            total += self.worth[i, kind] * (1 if kind == 0 else 0.5 + point[f"width{i}"] / 24)
            total -= 0.02 * (kind > 0) * (point[f"stride{i}"] == 2)
        return float(total)
