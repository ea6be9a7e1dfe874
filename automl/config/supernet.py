"""How the networks of a space of cells share weights, and when they are trusted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from automl.config.training import TrainingOptions
from automl.errors import ConfigError

SHRINKS = ("kernel", "depth", "width")
"""What progressive shrinking may open; width with what follows from it, expansion and squeezing."""


@dataclass(frozen=True)
class SupernetOptions:
    """The choices of a supernet: one set of weights for all networks of a space of cells; what makes no sense is a
    `ConfigError`.

    Trials are then not trained, but judged with these weights, their norms' statistics estimated anew. Before that the
    supernet is checked against networks trained alone, and where it ranks them otherwise the trials are trained as
    `evaluation.training` says."""

    training: TrainingOptions = field(default_factory=TrainingOptions)
    """How the shared weights are trained; `seconds` are predicted, as everywhere in a space of cells."""
    rule: Literal["single_path", "sandwich"] = "single_path"
    """What a step trains. single_path: one network, drawn evenly (Guo et al. 2020, arXiv 1904.00420). sandwich: of
    drawn kinds of block the largest sizes, the smallest and some between, the mean of their losses (Yu & Huang 2019,
    arXiv 1903.05134)."""
    drawn: int = 2
    """Of sandwich: how many networks between the largest and the smallest."""
    distil_from: float | None = 0.5
    """Of sandwich: from which part of the training on all but the largest learn what the largest says, where outputs
    are class scores (in-place distillation). None: all learn from targets to the end."""
    shrink: tuple[str, ...] = ()
    """Progressive shrinking (Cai et al. 2020, arXiv 1908.09791, section 3.3): some of kernel, depth, width, in the
    order in which smaller ones are opened, each in an equal part of the training after one of the largest alone. Their
    channels are not sorted. None named: all sizes from the beginning."""
    smaller: bool = False
    """Whether single_path trains networks below the budget too, so that studies with smaller budgets can use the
    supernet; sandwich always does."""
    recalibration: int = 2048
    """On how many training samples the statistics of a network's norms are estimated."""
    check: int = 20
    """How many networks are trained alone to check the supernet; at least 5, or 0: it is trusted unchecked."""
    inherit: bool = False
    """Whether the networks that are reported keep the weights of the supernet. If not, or where it is not trusted, they
    are trained from new weights."""
    file: str | None = None
    """A supernet that another study has trained, relative to the study file; then nothing is trained for it."""

    def __post_init__(self) -> None:
        training = self.training
        if training.keep != "last" or training.compile or training.distillation or training.method:
            raise ConfigError(
                "the training of a supernet keeps the last weights, compiles nothing and has no teacher or method of "
                "its own: leave keep, compile, distillation and method out"
            )
        if self.drawn < 0:
            raise ConfigError(f"drawn is a number of networks between the largest and the smallest, got {self.drawn}")
        if self.distil_from is not None and not 0 <= self.distil_from <= 1:
            raise ConfigError(f"distil_from is a part of the training, in [0, 1], or none, got {self.distil_from}")
        if len(set(self.shrink)) < len(self.shrink) or not set(self.shrink) <= set(SHRINKS):
            raise ConfigError(f"shrink names some of {', '.join(SHRINKS)}, each once, got {list(self.shrink)}")
        if self.recalibration < 2:
            raise ConfigError(f"recalibration is a number of samples, at least 2, got {self.recalibration}")
        if self.check != 0 and self.check < 5:
            raise ConfigError(
                f"check is a number of networks: at least 5, since fewer rank alike by chance, or 0 for no check, got "
                f"{self.check}"
            )
