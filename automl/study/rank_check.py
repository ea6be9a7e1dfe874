"""Whether one way of judging networks ranks them as another: Spearman's rank correlation within a window of cost.

Over a whole space a correlation is mostly that with size, which needs no training to be known. So networks are compared
that cost about the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from automl.util.duration import duration
from search_spaces import Point, Searched

TRUSTED = 0.6
"""The least rank correlation at which a supernet is trusted."""
DRAWS = 10
"""How many times as many networks are drawn as are taken: the window is around the middle of their costs."""
FEWEST = 5
"""Of fewer networks no correlation is told."""


def window(space: Searched, limits: Mapping[str, float], count: int, metric: str) -> list[Point]:
    """`count` different networks next to each other in what they cost in `metric`, drawn as random search draws them;
    fewer if the space has no more. A function of its arguments."""
    rng = np.random.default_rng(0)
    drawn: dict[Point, float] = {}
    for _ in range(DRAWS * count):
        point = space.project(rng.random(len(space.knobs)), limits)
        drawn.setdefault(point, space.cost(point, metric))
    ordered = sorted(drawn, key=lambda point: (drawn[point], point.key))
    first = max((len(ordered) - count) // 2, 0)
    return ordered[first : first + count]


@dataclass(frozen=True)
class Verdict:
    """What the check of a supernet came to."""

    correlation: float
    """Spearman's, of the goal's metric; 0 where it is none, as of equal values."""
    networks: int
    """How many were compared."""
    metric: str
    """The cost that the window is of."""
    low: float
    high: float
    supernet_s: float
    """What training the supernet took, in this study or the one that it is from."""
    alone_s: float
    """What training the networks alone took, all together."""
    judged_s: float
    """What judging them with shared weights took."""

    @property
    def trusted(self) -> bool:
        """Whether the supernet may judge trials."""
        return self.networks >= FEWEST and self.correlation >= TRUSTED

    @property
    def told(self) -> str:
        """The verdict in a line, with what it cost."""
        each = self.alone_s / max(self.networks, 1)
        ranks = (
            f"supernet: rank correlation {self.correlation:.2f} with {self.networks} networks trained alone "
            f"({self.metric} {self.low:,.0f} to {self.high:,.0f})"
        )
        took = f"It took {duration(self.supernet_s)}, one network alone {duration(each)}"
        if self.trusted:
            judged = f"judged with its weights {duration(self.judged_s / self.networks)}"
            return (
                f"{ranks}: trusted, trials have its weights, and their figures are not comparable with those of base "
                f"and check, which were trained. {took}, {judged}"
            )
        why = f"below {TRUSTED:g}" if self.networks >= FEWEST else f"fewer than {FEWEST} say nothing"
        instead = int(self.supernet_s / each) if each else 0
        return (
            f"{ranks}, {why}: not trusted, so every trial is trained by itself. {took}: {instead} could have been "
            f"trained in that time"
        )


def rank_correlation(one: list[float], other: list[float]) -> float:
    """Spearman's rank correlation; 0 where all values of one are equal, or there are fewer than two."""
    if len(one) < 2 or len(set(one)) == 1 or len(set(other)) == 1:
        return 0.0
    from scipy.stats import spearmanr  # half a second to import, for the few studies that ask

    found = float(spearmanr(one, other).statistic)
    return found if math.isfinite(found) else 0.0
