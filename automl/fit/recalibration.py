"""Batch-norm statistics estimated anew: a pruned network's activations no longer have the old ones."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

from automl.fast.precision import converted
from automl.tasks.batches import Batch
from automl.util.tracking_norms import tracking_norms


def recalibrate(network: nn.Module, batches: Sequence[Batch], dtype: torch.dtype = torch.float32) -> None:
    """Replace, in place, the running statistics of every batch norm by their averages over `batches`.

    Each batch is normalised by its own statistics on the way, as in training, and counts by its size; everything
    else (dropout, other norms) stays in eval mode. The batches should be augmented as in training: on plain ones
    even an unpruned network loses accuracy. A batch of a single sample has no statistics and is passed over.

    The passes run on a copy in `dtype`, to which floating-point inputs must have been converted; statistics are
    float32 whatever it is.
    """
    batches = [(inputs, targets) for inputs, targets in batches if len(targets) > 1]
    if not batches or not tracking_norms(network):
        return
    runner = converted(copy.deepcopy(network).eval(), dtype)
    norms = tracking_norms(runner)
    for norm in norms:
        norm.reset_running_stats()
        norm.training = True
    seen = 0
    with torch.no_grad():
        for inputs, targets in batches:
            seen += len(targets)
            for norm in norms:
                norm.momentum = len(targets) / seen  # a cumulative average
            runner(*inputs)
        for norm, estimated in zip(tracking_norms(network), norms, strict=True):
            for name in ("running_mean", "running_var"):
                getattr(norm, name).copy_(getattr(estimated, name))
