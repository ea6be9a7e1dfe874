"""Local search, first improvement: from a random Point to the first neighbour that is better, until none is.

The baseline that papers on architecture search forget and that beats many of them (White, Nolen & Savani 2021, arXiv
2005.02960; Ottelander et al. 2021, arXiv 2004.08996). Neighbours differ in one knob: any other level of a choice, a
step up or down of anything else; what is over the budget is then repaired, and amounts are filled up. At a local
optimum it starts again from a random Point. Nothing is tried twice.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from agents.base import NumberedAgent
from agents.moves import movable, stand
from agents.random_search import new_random_point
from agents.types import Task, Trial
from search_spaces import Point

STEP = 0.1
"""How far an amount moves, as a part of its levels; one level at least."""


class LocalSearch(NumberedAgent):
    """First-improvement local search with random restarts."""

    def __init__(self, task: Task, options: object) -> None:
        super().__init__(task, options)
        self.current: Trial | None = None
        """From where it looks for something better; None before the first value and at a local optimum."""
        self._around: list[Point] = []
        """The neighbours of that."""
        self._tried: set[Point] = set()

    def propose(self, number: int, taken: set[Point]) -> Point | None:
        """A neighbour of the current Point that is not known, drawn evenly; a random Point where there is none."""
        rng, known = self.exploring(number), self._tried | taken
        new = [point for point in self._around if point not in known]
        if new:
            return new[int(rng.integers(len(new)))]
        return new_random_point(self.space, self.limits, rng, known)

    def learn(self, trial: Trial) -> None:
        """Go to what is better; begin anew where all neighbours have been tried."""
        self._tried.add(trial.point)
        if self.valued(trial) and (self.current is None or trial.utility(self.goal) > self.current.utility(self.goal)):
            self.current = trial
            self._around = list(dict.fromkeys(self.neighbours(trial.point)))
        if self._tried.issuperset(self._around):
            self.current, self._around = None, []

    def neighbours(self, point: Point) -> Iterator[Point]:
        """The Points one step away, within the limits."""
        levels = [point[knob.name] for knob in self.space.knobs]
        order = np.arange(len(levels)).tolist()
        for t in movable(self.space, levels):
            legal = self.space.knobs[t].levels
            position, step = legal.index(levels[t]), max(round(STEP * len(legal)), 1)
            steps = (max(position - step, 0), min(position + step, len(legal) - 1))
            for other in range(len(legal)) if self.space.knobs[t].kind == "choice" else steps:
                if other != position:
                    moved = stand(self.space, point, t, legal[other], self.limits, order[t:] + order[:t])
                    if moved != point:
                        yield moved
