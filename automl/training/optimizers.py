"""The optimizers that a network can be trained with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from automl.config.training import TrainingOptions


def optimizer_of(parameters: Sequence[Tensor], options: TrainingOptions) -> torch.optim.Optimizer:
    """The optimizer that `options` name, over `parameters`; weights decay, norms and biases (one dimension) do not."""
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    rate, momentum = options.highest_rate, options.momentum
    if options.optimizer == "adamw":
        return torch.optim.AdamW(groups, rate, betas=(momentum, 0.999))
    return torch.optim.SGD(groups, rate, momentum, nesterov=momentum > 0)
