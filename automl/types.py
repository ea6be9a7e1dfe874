"""What an evaluation returns: measurements, or the reason why there are none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from agents import TrialState


@dataclass(frozen=True)
class Measurement:
    """One measured number, with its unit and how it was obtained."""

    metric: str
    value: float
    unit: str = ""
    n: int = 1
    """Sample size: images for an accuracy, rounds for a latency, 1 for a count."""
    spread: float | None = None
    """Standard error for a mean, interquartile range for a median; None for a count."""
    device: str = ""
    step: int = 0
    """Training step or epoch, 0 outside training."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"measurement {self.metric!r} must be finite, got {self.value}")


@dataclass(frozen=True)
class Outcome:
    """How a trial ended. Exactly `DONE` and `STOPPED` carry measurements; the other states carry a reason."""

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
    def infeasible(cls, reason: str, wall_s: float = 0.0) -> Outcome:
        """A trial whose network exceeds the budget or cannot be built."""
        return cls(TrialState.INFEASIBLE, (), reason, wall_s)

    @classmethod
    def failed(cls, reason: str, wall_s: float = 0.0) -> Outcome:
        """A trial that raised, ran out of memory or returned NaN."""
        return cls(TrialState.FAILED, (), reason, wall_s)

    @property
    def values(self) -> dict[str, float]:
        """Metric -> value, the last step of each metric."""
        return {m.metric: m.value for m in sorted(self.measurements, key=lambda m: m.step)}
