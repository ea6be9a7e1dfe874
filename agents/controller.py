"""A controller trained by policy gradient: a softmax a knob, walked in the order of the knobs behind the budget's wall.

REINFORCE (Williams 1992) as for architectures (Zoph & Le 2017, arXiv 1611.01578), with a softmax a knob in place of
their recurrent network, which does no worse on tables (Ying et al. 2019, arXiv 1902.09635, section 4; Dong & Yang 2020,
arXiv 2001.00326, section 5):

    theta <- theta + Adam[(R - baseline) * grad log p(point) + ENTROPY * grad H],    baseline = moving average of R

A level from which the budget cannot be kept has no probability, and a knob that makes no difference where the walk
stands is not drawn, so that p is of the network and not of one of its spellings. R is the utility in standard
deviations of those told before. Amounts left below the budget are filled up, and the policy learns from what was tried.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from agents.base import REDRAWS, NumberedAgent
from agents.errors import AgentError
from agents.random_search import new_random_point
from agents.types import Task, Trial
from search_spaces import Point

BETAS = (0.9, 0.999)
"""Of Adam."""


@dataclass(frozen=True)
class ControllerOptions:
    """What may be set."""

    lr: float = 0.05
    """Of Adam."""
    decay: float = 0.9
    """Of the moving average of the rewards, in [0, 1)."""
    entropy: float = 0.0
    """What an even choice is worth, in standard deviations of the utility a nat."""

    def __post_init__(self) -> None:
        for name, most in (("lr", math.inf), ("decay", 1.0), ("entropy", math.inf)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < most:
                raise AgentError(f"option {name!r}: expected a number in [0, {most:g}), got {value!r}")


class Controller(NumberedAgent):
    """A policy over the levels of each knob, learnt trial by trial."""

    Options: ClassVar[type] = ControllerOptions

    def __init__(self, task: Task, options: ControllerOptions) -> None:
        super().__init__(task, options)
        self.options = options
        self.logits = [np.zeros(len(knob.levels)) for knob in self.space.knobs]
        """n_knobs times [n_levels]."""
        self._moments = [(np.zeros_like(logits), np.zeros_like(logits)) for logits in self.logits]
        self._steps = 0
        self._baseline: float | None = None
        self._told: list[float] = []
        self._tried: set[Point] = set()

    def propose(self, number: int, taken: set[Point]) -> Point | None:
        """What the policy draws, again and again until it is new; a random Point if it insists on what is known."""
        rng, known = self.exploring(number), self._tried | taken
        drawn = (self.walk(rng) for _ in range(1 + REDRAWS))
        point = next((point for point in drawn if point not in known), None)
        return new_random_point(self.space, self.limits, rng, known) if point is None else point

    def walk(self, rng: np.random.Generator) -> Point:
        """A Point drawn from the policy, within the limits."""
        levels: list[int] = []
        for t, knob in enumerate(self.space.knobs):
            allowed = self.space.allowed(levels, self.limits)
            places = [knob.levels.index(level) for level in allowed]
            levels.append(allowed[int(rng.choice(len(places), p=softmax(self.logits[t][places])))])
        point = self.space.point(levels)
        return self.space.fill([point[knob.name] for knob in self.space.knobs], self.space.encode(point), self.limits)

    def learn(self, trial: Trial) -> None:
        """One step of Adam up the gradient of the reward of this trial."""
        self._tried.add(trial.point)
        if not self.valued(trial):
            return
        utility = trial.utility(self.goal)
        self._told.append(utility)
        spread = float(np.std(self._told)) or 1.0
        self._baseline = utility if self._baseline is None else self._baseline
        advantage = (utility - self._baseline) / spread
        self._baseline += (1 - self.options.decay) * (utility - self._baseline)
        self._steps += 1
        for t, places, chosen in self._decisions(trial.point):
            self._ascend(t, places, self._gradient(self.logits[t][places], chosen, advantage))

    def _decisions(self, point: Point) -> Iterator[tuple[int, list[int], int]]:
        """Of each knob that was drawn: the knob, the places of the levels it could have, which of those it has."""
        levels: list[int] = []
        for t, knob in enumerate(self.space.knobs):
            level = point[knob.name]
            places = [knob.levels.index(other) for other in {*self.space.allowed(levels, self.limits), level}]
            places.sort()
            if len(places) > 1:
                yield t, places, places.index(knob.levels.index(level))
            levels.append(level)

    def _gradient(self, logits: np.ndarray, chosen: int, advantage: float) -> np.ndarray:
        """Of the reward and the entropy, by the logits of the levels allowed: [n_allowed]."""
        p = softmax(logits)
        entropy = -p * (np.log(p) - float(p @ np.log(p)))
        taken = -p
        taken[chosen] += 1
        gradient: np.ndarray = advantage * taken + self.options.entropy * entropy
        return gradient

    def _ascend(self, t: int, places: Sequence[int], gradient: np.ndarray) -> None:
        """One step of Adam on the logits of knob `t` at `places`."""
        mean, square = self._moments[t]
        mean[places] = BETAS[0] * mean[places] + (1 - BETAS[0]) * gradient
        square[places] = BETAS[1] * square[places] + (1 - BETAS[1]) * gradient**2
        unbiased = mean[places] / (1 - BETAS[0] ** self._steps)
        scale = np.sqrt(square[places] / (1 - BETAS[1] ** self._steps)) + 1e-8
        self.logits[t][places] += self.options.lr * unbiased / scale

    def diagnostics(self) -> dict[str, float]:
        """How decided the policy is: the mean entropy of its softmaxes, as a part of an even choice's."""
        parts = [entropy(softmax(logits)) / math.log(len(logits)) for logits in self.logits if len(logits) > 1]
        return {"entropy": float(np.mean(parts))} if parts else {}


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities: [n]."""
    weights = np.exp(logits - logits.max())
    p: np.ndarray = weights / weights.sum()
    return p


def entropy(p: np.ndarray) -> float:
    """Of probabilities, [n], in nats."""
    return float(-(p * np.log(np.maximum(p, 1e-300))).sum())
