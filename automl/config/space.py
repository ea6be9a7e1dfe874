"""What may be chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from automl.errors import ConfigError


@dataclass(frozen=True)
class SpaceConfig:
    """What may be chosen."""

    name: Literal["channels", "weights", "depth"] = "channels"
    """The widths of coupled groups of channels; or how many single weights of each layer are not zero; or which blocks
    of layers remain beside the widths."""
    min_keep: float = 0.1
    """The smallest fraction of a group's channels, or of a layer's weights, that may remain."""
    round_to: int = 1
    """Kept channels are a multiple of this."""
    steps: int | None = None
    """Only this many widths of each group of channels, evenly spaced: a coarse grid. None for all."""
    exclude: tuple[str, ...] = ()
    """Layers whose channels or weights all stay, and blocks that stay."""
    skips: bool = False
    """Whether a space of depth may add skips."""
    max_skips: int = 1
    """From how many earlier places each block may be given one."""

    def __post_init__(self) -> None:
        if not 0 < self.min_keep <= 1:
            raise ConfigError(f"min_keep is a fraction above 0 and at most 1, got {self.min_keep}")
        if self.round_to < 1:
            raise ConfigError(f"round_to must be at least 1, got {self.round_to}")
        if self.steps is not None and self.steps < 2:
            raise ConfigError(f"steps must be at least 2, got {self.steps}")
        if self.name == "weights" and self.steps is not None:
            raise ConfigError("steps is for widths of channels: leave it out of a space of weights")
        if self.name == "weights" and self.round_to > 1:
            raise ConfigError("round_to is for numbers of channels: leave it out of a space of weights")
        if self.max_skips < 1:
            raise ConfigError(f"max_skips must be at least 1, got {self.max_skips}")
        if self.name != "depth" and (self.skips or self.max_skips > 1):
            raise ConfigError(f"skips are added in a space of depth: set `name: depth`, got {self.name}")
