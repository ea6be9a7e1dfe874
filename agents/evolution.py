"""Regularised (aging) evolution (Real et al., AAAI 2019, arXiv 1802.01548, Algorithm 1), on the budget.

The population is the last `population` trials that ended well: whoever is told joins it, and the oldest dies,
however good. A child is a mutation of the best of a few drawn at random. Chosen where the paper leaves room:

- Individuals are Points that use the budget up. The first are those of random search with the same seed; a mutation
  moves budget from one knob to another (`agents.moves.exchange`), sometimes several times over.
- A child that has been tried, or is running, is mutated further: a repeat would teach nothing.
- Stopped trials live by their estimates; failed and infeasible ones die at birth.
- Without limits a mutation moves single knobs.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from agents.base import REDRAWS, NumberedAgent
from agents.errors import AgentError
from agents.moves import exchange
from agents.random_search import new_random_point
from agents.types import Task, Trial
from search_spaces import Point


@dataclass(frozen=True)
class EvolutionOptions:
    """What may be set."""

    population: int | None = None
    """How many trials live at a time; by default 1.5 * sqrt(trials planned): 15 for 100, 30 for 400."""
    tournament: int | None = None
    """Of how many, drawn without replacement, the best is the parent; by default three quarters of the
    population, since there are few trials; the paper's quarter is for thousands."""
    strength: float = 0.5
    """The widest step of a mutation, as a part of a knob's levels, in (0, 1]."""
    exchanges: float = 1.5
    """The mean number of exchanges in a mutation, at least 1; their number is geometric."""

    def __post_init__(self) -> None:
        for name in ("population", "tournament"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise AgentError(f"option {name!r}: expected an integer >= 1, got {value!r}")
        if self.population is not None and self.tournament is not None and self.tournament > self.population:
            raise AgentError(
                f"option 'tournament': expected at most the population of {self.population}, got {self.tournament}"
            )
        for name, low, high in (("strength", 0.0, 1.0), ("exchanges", 1.0, math.inf)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high or not value:
                allowed = "a number in (0, 1]" if high == 1 else "a number >= 1"
                raise AgentError(f"option {name!r}: expected {allowed}, got {value!r}")


class Evolution(NumberedAgent):
    """Tournament selection with death by age."""

    Options: ClassVar[type] = EvolutionOptions

    def __init__(self, task: Task, options: EvolutionOptions) -> None:
        super().__init__(task, options)
        self.size = options.population or max(round(1.5 * math.sqrt(self.trials)), options.tournament or 1)
        self.tournament = options.tournament or math.ceil(0.75 * self.size)
        self.strength = options.strength
        self.exchanges = options.exchanges
        self.population: deque[Trial] = deque(maxlen=self.size)
        """Oldest first."""
        self._tried: set[Point] = set()

    def propose(self, number: int, taken: set[Point]) -> Point | None:
        """A random Point for the first population, then a child of the winner of a tournament."""
        rng = self.exploring(number)
        known = self._tried | taken
        if number >= self.size and self.population:
            child = self.parent(rng).point
            for _ in range(1 + REDRAWS):
                for _ in range(rng.geometric(1 / self.exchanges)):
                    child = exchange(self.space, child, self.limits, rng, self.strength)
                if child not in known:
                    return child
        return new_random_point(self.space, self.limits, rng, known)

    def learn(self, trial: Trial) -> None:
        """The trial joins the population; the oldest leaves it once it is full."""
        self._tried.add(trial.point)
        if self.valued(trial):
            self.population.append(trial)

    def parent(self, rng: np.random.Generator) -> Trial:
        """The best of a random few; the younger of two as good."""
        drawn = rng.choice(len(self.population), min(self.tournament, len(self.population)), replace=False)
        return max((self.population[i] for i in sorted(drawn, reverse=True)), key=lambda t: t.utility(self.goal))
