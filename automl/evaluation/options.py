"""How a trial is evaluated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args, get_type_hints

from automl._names import nearest
from automl.errors import ConfigError


@dataclass(frozen=True)
class EvaluationOptions:
    """The choices of an evaluation; a value that does not exist is a `ConfigError`."""

    importance: Literal["magnitude", "activation"] = "magnitude"
    """Which channels of a group stay: those with the largest weights, or weights times typical activation."""
    reconstruction: Literal["least_squares", "none"] = "least_squares"
    """Whether remaining weights are refitted to the original layer's outputs."""
    recalibration: Literal["batch_norm", "none"] = "batch_norm"
    """Whether batch-norm statistics are estimated anew on training batches."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the evaluation; auto is bfloat16 where the processor has it and the predictions agree."""

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            value, choices = getattr(self, name), get_args(hint)
            if value not in choices:
                raise ConfigError(f"{name} cannot be {value!r}{nearest(str(value), choices)}")
