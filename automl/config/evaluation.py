"""How a trial is evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from automl.config.schedulers import SchedulerOptions
from automl.config.supernet import SupernetOptions
from automl.config.training import TrainingOptions
from automl.errors import ConfigError
from automl.util.names import nearest

Importance = Literal["surgeon", "taylor", "activation", "magnitude"]


@dataclass(frozen=True)
class EvaluationOptions:
    """The choices of an evaluation; a value that does not exist is a `ConfigError`."""

    importance: Importance = "surgeon"
    """Which channels of a group stay: those that the others can make up for least; or those with the largest gradient
    times weight, weight times typical activation, or weights. Which single weights stay: the same; taylor is activation
    there."""
    reconstruction: Literal["least_squares", "sequential", "none"] = "least_squares"
    """How remaining weights are refitted: on the original's inputs, from matrices gathered once; on the inputs from the
    network pruned so far, which costs a pass over the calibration data; or not. So are the weights of sparse layers,
    after a choice by magnitude as AdaPrune does it."""
    recalibration: Literal["auto", "batch_norm", "none"] = "auto"
    """Whether batch-norm statistics are estimated anew on training batches; auto: unless the fit was sequential, which
    has already set them."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the evaluation; auto is bfloat16 where the processor has it and the predictions agree."""
    race: float = 0.99
    """A trial ends early once it will not beat the best of its lane, with this confidence; 0: every trial sees all
    validation samples."""
    training: TrainingOptions | None = None
    """How the network of each trial is trained after its weights are refitted; then there is no race. None: not."""
    supernet: SupernetOptions | None = None
    """Weights that all networks of a space of cells share, with which trials are judged in place of being trained, as
    long as they rank networks as training does. None: nothing is shared."""
    scheduler: SchedulerOptions | None = None
    """Which of Ray Tune's schedulers ends trials while they are trained; it alone does. None: every trial is trained
    to its end."""

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            value, choices = getattr(self, name), get_args(hint)
            if get_origin(hint) is Literal and value not in choices:
                raise ConfigError(f"{name} cannot be {value!r}{nearest(str(value), choices)}")
        if self.race and not 0.5 <= self.race < 1:
            raise ConfigError(f"race is a confidence of at least 0.5 and below 1, or 0 for none, got {self.race}")
        if self.scheduler is not None:
            if self.training is None:
                raise ConfigError(
                    "a scheduler ends the training of trials, and they are not trained: set `evaluation.training`, or "
                    "leave `scheduler` out: trials that are not trained end early by their `race`"
                )
            self.scheduler.require_useful(self.training.epochs)

    @property
    def races(self) -> bool:
        """Whether trials may end early: a trial that is trained has cost most of its time before it could."""
        return bool(self.race) and self.training is None

    @property
    def recalibrates(self) -> bool:
        """Whether batch-norm statistics are estimated anew."""
        chosen = self.recalibration
        return chosen == "batch_norm" or (chosen == "auto" and self.reconstruction != "sequential")


DEFAULTS = {"importance": "surgeon", "reconstruction": "least_squares"}
"""What an evaluation does where nothing is cut and a study file says nothing."""
CHOICES = {"importance": ("surgeon", "activation", "magnitude"), "reconstruction": ("least_squares", "none")}


def sparse_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """The section `evaluation` of a study without channels and depth: what is `given`, and `DEFAULTS`.

    Errors: `ConfigError`.
    """
    for name, choices in CHOICES.items():
        if name in given and given[name] not in choices:
            raise ConfigError(
                f"{name} cannot be {given[name]!r} where neither channels nor blocks go: expected one of "
                f"{', '.join(choices)}"
            )
    return {**DEFAULTS, **given}
