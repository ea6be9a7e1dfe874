"""Which networks of a space of cells a step of a supernet's training trains.

A network is drawn evenly, knob by knob, and brought within the budget as every agent's proposal is. What is random
comes from PyTorch's default generator, so that a training that was killed draws the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from search_spaces import Knob, Point, Searched

SIZES: Mapping[str, str] = {
    "kernel": "kernel",
    "depth": "depth",
    "width": "width",
    "expand": "width",
    "squeeze": "width",
}
"""What a knob of a stage decides, if that is a size -> what it is opened with in progressive shrinking."""


class Paths:
    """Draws networks of `space` within `limits`."""

    def __init__(
        self, space: Searched, limits: Mapping[str, float], *, smaller: bool = False, shrink: Sequence[str] = ()
    ) -> None:
        """`smaller`: whether sizes are drawn below those that use the budget up. `shrink`: what is opened one after the
        other, each in an equal part of the training, after a part in which it stands at its largest."""
        self.space, self.limits = space, dict(limits)
        self._smaller, self._shrink = smaller, tuple(shrink)
        self._sizes = np.array([_what(knob) in SIZES for knob in space.knobs])

    def one(self, progress: float = 0.0) -> Point:
        """One network, `progress` being the part of the training that is over, in [0, 1]."""
        drawn = torch.rand(len(self.space.knobs), dtype=torch.float64).numpy()
        opened = [self._opened(knob, progress) for knob in self.space.knobs]
        for t, (knob, levels) in enumerate(zip(self.space.knobs, opened, strict=True)):
            if self._sizes[t]:  # evenly over levels, which lie at any distance
                drawn[t] = knob.keep(levels[int(drawn[t] * len(levels))])
        point = self.space.project(drawn, self.limits)
        return self._below(point, progress) if self._smaller else point

    def sandwich(self, between: int, progress: float = 0.0) -> list[Point]:
        """Networks of the same kinds of block, each once: the largest within the budget first, the smallest, and so
        many between."""
        drawn = torch.rand(len(self.space.knobs), dtype=torch.float64).numpy()
        drawn[self._sizes] = 1.0
        largest = self.space.project(drawn, self.limits)
        levels = self._levels(largest)
        for t in np.flatnonzero(self._sizes).tolist():
            levels[t] = min(self._opened(self.space.knobs[t], progress)[0], levels[t])
        smallest = self.space.point(levels)
        others = [self._below(largest, progress) for _ in range(between)]
        return list(dict.fromkeys([largest, smallest, *others]))

    def _below(self, point: Point, progress: float) -> Point:
        """The network at `point` with each size drawn evenly from those opened up to its own: it costs no more."""
        levels, drawn = self._levels(point), torch.rand(len(self.space.knobs)).tolist()
        for t in np.flatnonzero(self._sizes).tolist():
            legal = [level for level in self._opened(self.space.knobs[t], progress) if level <= levels[t]]
            if legal:
                levels[t] = legal[int(drawn[t] * len(legal))]
        return self.space.point(levels)

    def _levels(self, point: Point) -> list[int]:
        """The level of each knob, in their order."""
        return [point[knob.name] for knob in self.space.knobs]

    def _opened(self, knob: Knob, progress: float) -> tuple[int, ...]:
        """The levels of a knob that are trained by now, ascending: of what shrinks first the largest alone, then one
        more after the other."""
        what = SIZES.get(_what(knob))
        if what not in self._shrink:
            return knob.levels
        parts = len(self._shrink) + 1
        share = progress * parts - (1 + self._shrink.index(what))
        if share < 0:
            return knob.levels[-1:]
        count = 2 + math.floor(share * (len(knob.levels) - 1))
        return knob.levels[-min(count, len(knob.levels)) :]


def _what(knob: Knob) -> str:
    """What a knob of a space of cells decides: `kernel` of `stage1:kernel`."""
    return knob.name.rpartition(":")[2]
