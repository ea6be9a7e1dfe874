"""The optimizers that a network can be trained with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from automl.config.training import TrainingOptions
from automl.errors import ConfigError
from automl.util.own_code import named_function


def optimizer_of(parameters: Sequence[Tensor], options: TrainingOptions) -> torch.optim.Optimizer:
    """The optimizer that `options` name, over `parameters`; weights decay, norms and biases (one dimension) do not."""
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    rate, momentum = options.highest_rate, options.momentum
    if ":" in options.optimizer:
        return _own(options.optimizer, groups, rate)
    if options.optimizer == "adamw":
        return torch.optim.AdamW(groups, rate, betas=(momentum, 0.999))
    return torch.optim.SGD(groups, rate, momentum, nesterov=momentum > 0)


def _own(spec: str, groups: list[dict[str, Any]], rate: float) -> torch.optim.Optimizer:
    """What the user's own function makes."""
    made = named_function(spec, "optimizer")(groups, rate)
    if not isinstance(made, torch.optim.Optimizer):
        raise ConfigError(f"{spec} must return a torch.optim.Optimizer, got {type(made).__name__}")
    return made
