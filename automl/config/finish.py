"""What becomes of the best trials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from automl.config.training import NEW_RATES, StageOptions, TrainingOptions
from automl.errors import ConfigError


@dataclass(frozen=True)
class ScratchOptions:
    """How the winner's structure is trained from new weights, as a control (Liu et al. 2019, arXiv 1810.05270)."""

    arms: tuple[Literal["epochs", "macs"], ...] = ("epochs",)
    """epochs: for as many as the original (Scratch-E); macs: for as many multiply-accumulates, which are more epochs of
    a smaller network (Scratch-B)."""
    epochs: int | None = None
    """How many the original was trained for; None: as many as finalists are, which suits a first look alone."""
    learning_rate: float | None = None
    """The highest; None: the one that is usual for new weights under the optimizer of `finish.training`."""

    def __post_init__(self) -> None:
        if not self.arms or len(set(self.arms)) < len(self.arms):
            raise ConfigError(f"arms are epochs, macs or both, got {list(self.arms)}. Leave `scratch` out for none")
        if self.epochs is not None and self.epochs < 1:
            raise ConfigError(f"epochs must be at least 1, got {self.epochs}")

    def rate_beside(self, usual: TrainingOptions) -> float | None:
        """The learning rate of a control of networks that are trained as `usual`."""
        return NEW_RATES.get(usual.optimizer, usual.learning_rate) if self.learning_rate is None else self.learning_rate


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
    scratch: ScratchOptions | None = None
    """How the winner's structure is trained from new weights beside it, as a control; None: not at all."""

    def __post_init__(self) -> None:
        if self.finalists < 1:
            raise ConfigError(f"finalists must be at least 1, got {self.finalists}")
