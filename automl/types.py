"""What the parts of the program hand to each other: measurements, or the reason why there are none; a line of text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from agents import TrialState

Say = Callable[[str], None]
"""Tells the user one line of text."""


BASE = "base"
"""The lane of the original network: one trial."""
CHECK = "check"
"""The lane of the networks that are trained alone to check a supernet."""


def silent(text: str) -> None:
    """Tell nobody: the `Say` where none is given."""


class Phase(StrEnum):
    """When in a study a number was measured. Agents are told those of the search, and no others."""

    SEARCH = "search"
    """By a trial."""
    REFITTED = "refitted"
    """Of a finalist that is to be trained, before that."""
    TRAINING = "training"
    """In the course of that training: a step is an epoch."""
    FINAL = "final"
    """Of a finalist as it is reported: on all validation data, its costs counted."""
    CERTIFICATE = "certificate"
    """Of a network timed to see whether it keeps the budget's limit on latency."""
    SCRATCH = "scratch"
    """Of the winner's structure trained from new weights, on the validation data."""
    TEST = "test"
    """On the test data, of the networks that are reported."""
    LATENCY = "latency"
    """Of the networks that are reported, run side by side: their latency and peak memory."""
    AGENT = "agent"
    """By an agent of itself, once it has learnt from a trial."""
    SENSITIVITY = "sensitivity"
    """Of the original network, before any trial: the error that a choice alone was estimated to cause. The metric is
    the knob, the step its level."""
    GATES = "gates"
    """Of the original network, before any trial: the part of each knob that gates have kept in a training, and its
    seconds. The step is the seed."""
    CORRECTION = "correction"
    """In the course of a search: what the best networks took when they were timed, and, of the original network, what
    the model of latency is multiplied by from there on. The step is how many trials a lane had by then."""
    SUPERNET = "supernet"
    """With the weights that all networks share: what a network of the check is worth, and the seconds that it took. Of
    the original network the seconds of the training, and the rank correlation with networks trained alone."""


@dataclass(frozen=True)
class Measurement:
    """One measured number, with its unit and how it was obtained."""

    metric: str
    """Its name alone, such as `accuracy`, whatever the phase."""
    value: float
    unit: str = ""
    n: int = 1
    """Sample size: images for an accuracy, rounds for a latency, 1 for a count."""
    spread: float | None = None
    """Standard error for a mean, interquartile range for a median; None for a count."""
    device: str = ""
    step: int = 0
    """Training step or epoch, 0 outside training."""
    phase: Phase = Phase.SEARCH

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"measurement {self.metric!r} must be finite, got {self.value}")


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    `DONE` with measurements; `STOPPED` with estimates and `INFEASIBLE` with what the network would be worth if the
    budget allowed it, both with a reason; `FAILED` with a reason alone.
    """

    state: TrialState
    measurements: Sequence[Measurement] = field(default_factory=tuple)
    reason: str | None = None
    wall_s: float = 0.0
    """Time the worker spent on the trial, in seconds."""

    @classmethod
    def done(cls, measurements: Sequence[Measurement], wall_s: float = 0.0) -> Outcome:
        """A trial that ran to its end."""
        return cls(TrialState.DONE, tuple(measurements), None, wall_s)

    @classmethod
    def stopped(cls, reason: str, measurements: Sequence[Measurement]) -> Outcome:
        """A trial that ended early on purpose, with what was reached or estimated by then."""
        return cls(TrialState.STOPPED, tuple(measurements), reason)

    @classmethod
    def infeasible(cls, reason: str, measurements: Sequence[Measurement] = ()) -> Outcome:
        """A trial whose network exceeds the budget, measured all the same, or cannot be built."""
        return cls(TrialState.INFEASIBLE, tuple(measurements), reason)

    @classmethod
    def failed(cls, reason: str, wall_s: float = 0.0) -> Outcome:
        """A trial that raised, ran out of memory or returned NaN."""
        return cls(TrialState.FAILED, (), reason, wall_s)

    @property
    def values(self) -> dict[str, float]:
        """Metric -> value: what an agent is told."""
        return values_in(Phase.SEARCH, self.measurements)


def values_in(phase: Phase, measurements: Iterable[Measurement]) -> dict[str, float]:
    """Metric -> value in `phase`: the last step of each metric, of equal steps the one that comes last."""
    return {m.metric: m.value for m in sorted(measurements, key=lambda m: m.step) if m.phase == phase}


def in_phase(phase: Phase, measurements: Iterable[Measurement]) -> list[Measurement]:
    """`measurements` as those of `phase`."""
    return [replace(m, phase=phase) for m in measurements]
