"""The course of a training, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from automl.config.training import TrainingOptions
from automl.util.duration import duration


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to."""

    loss: float
    """Mean over the epoch's training samples, each as it was when its turn came."""
    samples: int
    wall_s: float
    """Time of its steps, without validation."""
    validation: Mapping[str, float] = field(default_factory=dict)
    """What `validate` gave after it."""


@dataclass(frozen=True)
class History:
    """The course of a training."""

    epochs: tuple[Epoch, ...]
    options: TrainingOptions
    """Those it ran with: nothing is `auto` any more but the device."""
    kept: int
    """After which epoch the network had the weights that it comes back with, counted from 1."""

    @property
    def wall_s(self) -> float:
        """Time of all steps, in seconds."""
        return sum(epoch.wall_s for epoch in self.epochs)


def line_of(epochs: Sequence[Epoch], planned: int, left_s: float) -> str:
    """How far a training is, and how it does."""
    last = epochs[-1]
    parts = [f"loss {last.loss:.4f}", *(f"validation {name} {value:.4f}" for name, value in last.validation.items())]
    text = f"epoch {len(epochs)} of {planned}: {', '.join(parts)}, {last.samples / last.wall_s:.0f} samples/s"
    return text + (f", about {duration(left_s)} left" if len(epochs) < planned else "")
