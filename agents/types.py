"""What an agent is told and what it answers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

from search_spaces import Point, Space

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Goal:
    """What to improve: a metric and its direction. `utility` is the only place where a sign flips."""

    metric: str
    direction: Literal["maximize", "minimize"]

    def utility(self, value: float) -> float:
        """`value` on a scale where more is always better."""
        return value if self.direction == "maximize" else -value


class TrialState(StrEnum):
    """How far a trial has come. Every state but `RUNNING` is final."""

    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"
    """Ended early on purpose; its values are those reached so far."""
    INFEASIBLE = "infeasible"
    FAILED = "failed"

    @property
    def finished(self) -> bool:
        """Whether the trial will not change any more."""
        return self is not TrialState.RUNNING


@dataclass(frozen=True)
class Trial:
    """One evaluation of one Point, as an agent sees it."""

    number: int
    """Position among the trials of this agent and seed, from 0."""
    point: Point
    state: TrialState = TrialState.RUNNING
    values: Mapping[str, float] = field(default_factory=dict)
    """Metric -> value; finite numbers only. A stopped trial has estimates, an infeasible one what its network would
    be worth if the budget allowed it; a failed one has none."""
    reason: str | None = None
    """Why the trial is stopped, infeasible or failed."""

    def utility(self, goal: Goal) -> float:
        """The goal's utility of this trial; minus infinity for one without a value."""
        return goal.utility(self.values[goal.metric]) if goal.metric in self.values else -math.inf


Sensitivity: TypeAlias = "Mapping[str, np.ndarray]"
"""Knob name -> how much is lost, by a closed-form estimate, when that knob alone stands at each of its levels:
[n_levels], in the order of `Knob.levels`, never rising, 0 at the highest. Losses of different knobs are in one unit.
Bits, such as whether a block remains, may have none."""


@dataclass(frozen=True)
class ErrorCurves(Mapping[str, "np.ndarray"]):
    """A `Sensitivity` that knows of pairs of knobs of which one makes the other dearer."""

    curves: Mapping[str, np.ndarray]
    dearer: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """Two knobs -> what the losses of the second are multiplied by while the first is below its highest level, at least
    1. A knob is in one pair at most."""

    def __getitem__(self, name: str) -> np.ndarray:
        return self.curves[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.curves)

    def __len__(self) -> int:
        return len(self.curves)


@dataclass(frozen=True)
class Task:
    """What an agent of ours is given: where to search, for what, within which limits, for how long."""

    space: Space
    goal: Goal
    limits: Mapping[str, float]
    """Cost metric -> upper limit in absolute units."""
    seed: int
    trials: int
    """How many trials are planned; schedules span them."""
    sensitivity: Sensitivity | None = None
    """Given to an agent that `uses_sensitivity`, if there is one."""
    learnt: Mapping[str, float] | None = None
    """Given to an agent that `learns_widths`: knob -> the fraction kept that a training under `limits` came to."""


@runtime_checkable
class Agent(Protocol):
    """How to choose: a pure function of space, goal, limits, seed and the history told to it.

    The randomness of trial `number` is `numpy.random.default_rng([seed, number])` and nothing else, so telling a
    new agent the same history in the same order restores the old one exactly.
    """

    max_trials: ClassVar[int | None]
    """How many trials make sense (1 for a rule without randomness), or None."""

    def ask(self, n: int, running: Sequence[Trial]) -> Sequence[Point]:
        """Up to `n` Points to try next, given the trials still running; fewer (or none) means "wait".

        Asking does not change the agent. The first Point gets the number `trials told + len(running)`.
        """

    def tell(self, finished: Sequence[Trial]) -> None:
        """Learn from trials that have finished, whatever their state, in the order in which they finished."""


def trials_of_use(agent: Agent | type[Agent], trials: int) -> int:
    """How many of `trials` an agent makes use of: some have one proposal."""
    return trials if agent.max_trials is None else min(trials, agent.max_trials)
