"""What becomes of the best trials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from automl.config.training import StageOptions, TrainingOptions
from automl.errors import ConfigError


@dataclass(frozen=True)
class FinishConfig:
    """What becomes of the best trials before they are reported."""

    finalists: int = 4
    """How many of the best of all agents and seeds are rebuilt with more care, beside the best of each agent and seed;
    the best of those on the validation data is reported."""
    reconstruction: Literal["sequential", "blockwise", "as_searched"] = "sequential"
    """How: refitted layer after layer on their own inputs; the same, and then block after block tuned to make what the
    original's makes, which needs no labels and takes minutes; or just as the trial was."""
    training: TrainingOptions | None = None
    """How they are trained after that; None: as every trial was (`evaluation.training`), or not at all."""
    stages: StageOptions | None = None
    """In how many stages they are cut, each of them trained; None: at once, and then trained."""

    def __post_init__(self) -> None:
        if self.finalists < 1:
            raise ConfigError(f"finalists must be at least 1, got {self.finalists}")
