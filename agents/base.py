"""What every agent of ours shares: its arguments, trial numbers, streams of randomness, distinct proposals."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np

from agents.errors import AgentError
from agents.types import Task, Trial, TrialState
from search_spaces import Point

REDRAWS = 20
"""How often a proposal equal to a running trial is drawn anew before the agent says "wait"."""


@dataclass(frozen=True)
class NoOptions:
    """The options of an agent that has none."""


@dataclass(frozen=True)
class Counts:
    """Options that are whole numbers, or None for a default that depends on the trials planned.

    The least number allowed is 1, or what the metadata of a field say under "least". Other options are left alone.
    """

    def __post_init__(self) -> None:
        for option in fields(self):
            value, least = getattr(self, option.name), option.metadata.get("least", 1)
            if (value is None and option.default is None) or isinstance(option.default, bool | float):
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise AgentError(f"option {option.name!r}: expected an integer >= {least}, got {value!r}")


class NumberedAgent(ABC):
    """An agent whose trial numbers are counted for it; a subclass says what trial `number` tries and learns.

    Trial `number` draws from `default_rng([seed, number])`: the generator itself when it is proposed, a generator
    spawned from it when its outcome is learnt. Nothing else is random, so a history told again restores the agent.
    """

    Options: ClassVar[type] = NoOptions
    """A frozen dataclass; its fields are the keyword options `agents.create` accepts."""

    max_trials: ClassVar[int | None] = None

    uses_sensitivity: ClassVar[bool] = False
    """Whether the agent can make use of a `Sensitivity`; whoever creates it then computes one."""

    learns_widths: ClassVar[bool] = False
    """Whether the agent proposes what a training with gates has come to; whoever creates it then makes one."""

    stays_within: ClassVar[bool] = True
    """Whether every Point proposed keeps the limits. One that walks down to the budget from above does not."""

    takes_choices: ClassVar[bool] = True
    """Whether the agent can search a space with knobs whose levels have no order of cost."""

    def __init__(self, task: Task, options: object) -> None:
        if task.seed < 0:
            raise AgentError(f"expected a seed of 0 or more, got {task.seed}")
        if task.trials < 1:
            raise AgentError(f"expected at least 1 trial, got {task.trials}")
        if not task.space.knobs:
            raise AgentError("the space has no knob, so there is nothing to choose: free what is fixed or excluded")
        self.space = task.space
        self.goal = task.goal
        self.limits = dict(task.limits)
        self.seed = task.seed
        self.trials = task.trials
        self.told = 0

    def ask(self, n: int, running: Sequence[Trial]) -> list[Point]:
        """Up to `n` Points, all different from each other and from the running ones; fewer means "wait"."""
        taken = {trial.point for trial in running}
        points: list[Point] = []
        first = self.told + len(running)
        for number in range(first, first + n):
            point = self.propose(number, taken)
            if point is None:
                break
            taken.add(point)
            points.append(point)
        return points

    def tell(self, finished: Sequence[Trial]) -> None:
        """Count and learn from finished trials, one by one in the order given."""
        for trial in finished:
            if not trial.state.finished:
                raise AgentError(f"trial {trial.number} is still running: tell it once it has finished")
            self.told += 1
            self.learn(trial)

    @abstractmethod
    def propose(self, number: int, taken: set[Point]) -> Point | None:
        """What trial `number` tries: a Point not in `taken`, or None if none was found. Changes nothing."""

    @abstractmethod
    def learn(self, trial: Trial) -> None:
        """Learn from one finished trial of any state; one without a value of the goal's metric teaches nothing."""

    def valued(self, trial: Trial) -> bool:
        """Whether a finished trial has a value to learn from; that of a stopped one is an estimate."""
        return trial.state in (TrialState.DONE, TrialState.STOPPED) and self.goal.metric in trial.values

    def diagnostics(self) -> Mapping[str, float]:
        """Finite numbers about the last trial learnt from, for the record; empty for an agent that learns nothing."""
        return {}

    def exploring(self, number: int) -> np.random.Generator:
        """The stream from which trial `number` is proposed."""
        return np.random.default_rng([self.seed, number])

    def learning(self, number: int) -> np.random.Generator:
        """The stream with which the outcome of trial `number` is learnt, independent of the one that proposed it."""
        return np.random.default_rng([self.seed, number]).spawn(1)[0]
