"""Layer by layer: REINFORCE learns the width of one group of channels at a time, and begins at the whole network.

The learning is that of the try-and-learn agents of Huang et al. 2018, "Learning to prune filters in convolutional
neural networks", arXiv 1801.07365: one layer at a time, rewards of a few samples are standardised, the policy goes up
their gradient (section 3.2), and what was found stands while the next layer is tried. So a study that is guaranteed a
drop, with the objective `bounded_drop` that is their reward, begins at the original and not at networks that have lost
more already.

It is not their agent, which is a network that reads a layer's weights and keeps each filter with a probability of its
own. A Point has widths, and the operator's criterion says which channels fill them. So the policy of a knob is a normal
distribution of its keep fraction x, cut to what is legal, and a step follows the natural gradient of its two numbers:

    mean   <- mean + lr * deviation * average of A z,           z = (x - mean) / deviation
    deviation <- deviation * exp(lr / 2 * average of A (z^2 - 1)),   A = (reward - average) / its deviation

The first trial is the original. The knobs then have `rollouts` trials each, from the first layer to the last and again
from the first, for as long as there are trials; the others stand as in the best trial so far. In the paper a layer is
done with once its policy changes no more, is tuned, and is not come back to: without tuning a reward of the whole
network is soon spent on the first layers. Whoever judges the trials trains them or not. What is over a budget is
projected onto it; what is below is left there. What is learnt from is what was executed, and trials without a value
teach nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from agents.base import REDRAWS, Counts, NumberedAgent
from agents.errors import AgentError
from agents.moves import within
from agents.random_search import new_random_point
from agents.types import Task, Trial
from search_spaces import Point

NARROWEST = 0.02
"""The least deviation of a policy, so that its draws differ."""
WIDENING = 1.2
"""What the deviation is multiplied by for a draw after one that was nothing new."""


@dataclass(frozen=True)
class LayerByLayerOptions(Counts):
    """What may be set."""

    rollouts: int = 5
    """Trials between two steps of a policy, as in the paper."""
    lr: float = 1.0
    """Of a step, in deviations of the policy."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.lr, bool) or not isinstance(self.lr, int | float) or not 0 < self.lr < math.inf:
            raise AgentError(f"option 'lr': expected a number above 0, got {self.lr!r}")


class LayerByLayer(NumberedAgent):
    """A normal distribution of each knob's keep fraction, learnt one knob after the other."""

    Options: ClassVar[type] = LayerByLayerOptions
    takes_choices: ClassVar[bool] = False

    def __init__(self, task: Task, options: LayerByLayerOptions) -> None:
        super().__init__(task, options)
        self.options = options
        self._least = np.array([knob.least for knob in self.space.knobs])
        self.mean = (1 + self._least) / 2
        """Of each knob's policy: [n_knobs]."""
        self.deviation = np.maximum((1 - self._least) / 3, NARROWEST)
        """[n_knobs]."""
        self.best: Trial | None = None
        """The best trial within the limits."""
        self._seen: list[list[tuple[float, float]]] = [[] for _ in self.space.knobs]
        """Of each knob the fractions and utilities since the last step."""
        self._tried: set[Point] = set()
        self._last = 0

    def stage(self, number: int) -> int:
        """The knob whose policy trial `number`, from 1, is drawn from."""
        return (number - 1) // self.options.rollouts % len(self.space.knobs)

    def propose(self, number: int, taken: set[Point]) -> Point | None:
        """The original first; then a draw of the stage's policy, wider each time that it is nothing new; else a random
        Point."""
        base = self.space.point(self.space.original_levels.tolist()) if self.best is None else self.best.point
        start, known, rng = self.space.encode(base), self._tried | taken, self.exploring(number)
        if number == 0:
            return self._legal(start)
        t = self.stage(number)
        for redraw in range(1 + REDRAWS):
            wanted = start.copy()
            drawn = rng.normal(self.mean[t], self.deviation[t] * WIDENING**redraw)
            wanted[t] = np.clip(drawn, self._least[t], 1.0)
            if (point := self._legal(wanted)) not in known:
                return point
        return new_random_point(self.space, self.limits, rng, known)

    def learn(self, trial: Trial) -> None:
        """Note the trial; a step of its knob's policy once so many are there."""
        self._tried.add(trial.point)
        if not self.valued(trial):
            return
        if self._inside(trial.point) and (self.best is None or trial.utility(self.goal) > self.best.utility(self.goal)):
            self.best = trial
        if trial.number == 0:
            return
        t = self._last = self.stage(trial.number)
        self._seen[t].append((float(self.space.encode(trial.point)[t]), trial.utility(self.goal)))
        if len(self._seen[t]) == self.options.rollouts:
            self._step(t)

    def diagnostics(self) -> Mapping[str, float]:
        """Of the policy that learnt last: the mean keep fraction, and the deviation."""
        return {"keep": float(self.mean[self._last]), "deviation": float(self.deviation[self._last])}

    def _step(self, t: int) -> None:
        """Up the gradient of the rewards of what knob `t` was seen at."""
        x, rewards = np.array(self._seen[t]).T
        self._seen[t] = []
        if np.ptp(rewards) == 0:
            return
        advantages = (rewards - rewards.mean()) / rewards.std()
        z = (x - self.mean[t]) / self.deviation[t]
        wider = self.options.lr / 2 * float(np.mean(advantages * (z**2 - 1)))
        moved = self.mean[t] + self.options.lr * self.deviation[t] * np.mean(advantages * z)
        self.mean[t] = np.clip(moved, self._least[t], 1.0)
        self.deviation[t] = np.clip(self.deviation[t] * math.exp(min(wider, 1.0)), NARROWEST, 1.0)

    def _legal(self, wanted: np.ndarray) -> Point:
        """The nearest Point, if it is within the limits; else projected onto them."""
        point = self.space.decode(wanted)
        return point if self._inside(point) else self.space.project(wanted, self.limits)

    def _inside(self, point: Point) -> bool:
        """Whether a Point keeps the limits."""
        return within(self.space, [point[knob.name] for knob in self.space.knobs], self.limits)
