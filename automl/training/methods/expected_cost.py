"""What a network is expected to cost whose channels are there with some probability, as parts of its limits."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from search_spaces import NetworkSpace


class ExpectedCost:
    """Every limited metric as the space prices it, between the widths that may be chosen along straight lines.

    Costs are products of a few widths, so around expected widths they are linear in each: at the widths that may be
    chosen next to them they are exact, and the slopes there are those of the product. Any metric that the
    space knows will do, sizes of files, peak memory and predicted latency included.
    """

    def __init__(self, space: NetworkSpace, limits: Mapping[str, float]) -> None:
        """Of the groups of channels of `space`; what other knobs choose stays as in the original."""
        places = {knob.name: t for t, knob in enumerate(space.knobs) if knob.operator == "channels"}
        self._space = space
        self._places = [places[group.name] for group in space.groups]
        self._levels = [space.knobs[t].levels for t in self._places]
        self._whole = {metric: space.original_cost(metric) for metric in limits}
        self._limits = dict(limits)
        self.metrics = tuple(limits)

    def around(self, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How far the network of expected `widths`, [n_groups], is over each limit, and what another channel adds.

        Both are parts of what the original costs: [n_limits], negative where the limit is kept, and
        [n_limits, n_groups]. Below the narrowest width that may be chosen a channel adds nothing.
        """
        corners = [self._corner(t, width) for t, width in enumerate(widths.tolist())]
        base = self._space.original_levels
        base[self._places] = [low for low, _ in corners]
        over, slopes = np.empty(len(self.metrics)), np.empty((len(self.metrics), len(corners)))
        for i, metric in enumerate(self.metrics):
            at_base = self._cost(base, metric)
            for t, (low, high) in enumerate(corners):
                raised = base.copy()
                raised[self._places[t]] = high
                slopes[i, t] = (self._cost(raised, metric) - at_base) / max(high - low, 1)
            lows = np.array([low for low, _ in corners])
            over[i] = at_base + slopes[i] @ np.maximum(widths - lows, 0) - self._limits[metric] / self._whole[metric]
        below = np.array([width < levels[0] for width, levels in zip(widths, self._levels, strict=True)])
        return over, np.where(below, 0.0, slopes)

    def over(self, widths: np.ndarray) -> np.ndarray:
        """How far the network of whole `widths`, [n_groups], is over each limit, exactly: [n_limits].

        Parts of what the original costs, as above.
        """
        levels = self._space.original_levels
        levels[self._places] = widths
        return np.array([self._cost(levels, m) - self._limits[m] / self._whole[m] for m in self.metrics])

    def _cost(self, levels: np.ndarray, metric: str) -> float:
        return self._space.cost_of_levels(levels, metric) / self._whole[metric]

    def _corner(self, t: int, width: float) -> tuple[int, int]:
        """The widths of group `t` that may be chosen on either side of `width`."""
        levels = self._levels[t]
        if len(levels) == 1:
            return levels[0], levels[0]
        pairs = list(pairwise(levels))
        return pairs[min(max(bisect_right(levels, width) - 1, 0), len(pairs) - 1)]
