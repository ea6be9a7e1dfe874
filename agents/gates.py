"""Gates: the widths that a network comes to when it is trained with gates on its channels, under the budget.

The training itself is not the agent's: whoever creates it makes one with the options below and says what came of it.
So what a training finds stands beside what searches find, with the same budget and the same judge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from agents.base import NumberedAgent
from agents.errors import AgentError
from agents.types import Task, Trial
from search_spaces import Point

GATE_RATES = {"hard_concrete": 0.1, "bernoulli": 0.02, "ranked": 0.1}
"""Way of learning widths -> the rate that suits it."""


@dataclass(frozen=True)
class GatesOptions:
    """How the gates are trained; what makes no sense is an `AgentError`."""

    learner: str = "hard_concrete"
    """What is learnt: `hard_concrete`, a random gate for every channel (Louizos et al. 2018); `bernoulli`, one that is
    0 or 1, and is shut for good once it is hardly ever open (after Guenter & Sideris 2022); `ranked`, one number for
    every group of channels, the fraction of the most salient ones that is kept (after Liberis & Lane 2021)."""
    steps: int = 600
    """Steps of the optimizer: as many epochs as hold them, of at most 100 steps each."""
    batch_size: int = 128
    """Samples in a step."""
    optimizer: str = "sgd"
    """Of the weights: `sgd` or `adamw`."""
    learning_rate: float | None = None
    """Of the weights, along half a cosine; none: 0.02, or 3e-4 of adamw."""
    gate_rate: float | None = None
    """Of the gates or fractions, by Adam; it falls in the second half. None: 0.1, or 0.02 of bernoulli."""
    dual_rate: float = 0.1
    """Of the multipliers, a step, for what is over the budget as a part of the original's cost."""
    dropout: float = 0.05
    """How probably a gate is shut at first; of `ranked`, the part of each group that is pruned at first."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise AgentError(f"option {name!r}: expected an integer >= 1, got {value!r}")
        if self.optimizer not in ("sgd", "adamw"):
            raise AgentError(f"option 'optimizer': expected sgd or adamw, got {self.optimizer!r}")
        if self.learner not in GATE_RATES:
            raise AgentError(f"option 'learner': expected one of {', '.join(GATE_RATES)}, got {self.learner!r}")
        for name in ("learning_rate", "gate_rate", "dual_rate", "dropout"):
            value = getattr(self, name)
            if name in ("learning_rate", "gate_rate") and value is None:
                continue
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
                raise AgentError(f"option {name!r}: expected a number above 0, got {value!r}")
        if self.dropout >= 1:
            raise AgentError(f"option 'dropout': expected a probability above 0 and below 1, got {self.dropout!r}")

    @property
    def settled_gate_rate(self) -> float:
        """The rate of the gates, as given or as it suits the way of learning."""
        return GATE_RATES[self.learner] if self.gate_rate is None else self.gate_rate


class Gates(NumberedAgent):
    """Proposes the Point nearest to what the gates have learnt, once."""

    Options: ClassVar[type] = GatesOptions
    takes_choices: ClassVar[bool] = False
    learns_widths: ClassVar[bool] = True
    max_trials: ClassVar[int | None] = 1

    def __init__(self, task: Task, options: object) -> None:
        super().__init__(task, options)
        if task.learnt is None:
            raise AgentError("agent 'gates' needs what gates have learnt: run it in a study, which trains them")
        strange = sorted(set(task.learnt) - {knob.name for knob in self.space.knobs})
        if strange:
            raise AgentError(f"gates were learnt for {strange[:3]}, which are no knobs of this space")
        self._learnt = dict(task.learnt)

    def propose(self, number: int, taken: set[Point]) -> Point | None:
        """What was learnt, within the budget and using it up; knobs that have no gates as in the original."""
        if number > 0:
            return None
        known = zip(self.space.knobs, self.space.original_levels.tolist(), strict=True)
        wanted = np.array([self._learnt.get(knob.name, knob.keep(level)) for knob, level in known])
        return self.space.project(wanted, self.limits)

    def learn(self, trial: Trial) -> None:
        """It has learnt before."""
