"""Losses that cannot tell a network from noise, which are refused before anything is searched by them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from automl.errors import DataError
from automl.tasks.metric import Score
from automl.tasks.reading import Batch


def require_telling(model: nn.Module, loss: Score, batch: Batch) -> None:
    """Raise `DataError` if `loss` gives noise what it gives the outputs of `model`, on two samples and on all.

    Outputs that are no tensor are left to their loss.
    """
    inputs, targets = batch
    for size in (2, len(targets)):
        with torch.no_grad():
            outputs = model(*(x[:size] for x in inputs))
        if not isinstance(outputs, Tensor) or not outputs.is_floating_point():
            return
        told = _constant(loss, outputs, targets[:size])
        if told is None:
            return
    one = outputs.ndim > 1 and outputs.shape[1] == 1
    fits = "torch.nn.functional.binary_cross_entropy_with_logits" if one else "one whose value changes with them"
    raise DataError(
        f"expected a loss that depends on the outputs, got {told:g} for those of the network (shape "
        f"{list(outputs.shape)}) and for noise alike, without a gradient: give `loss=`, "
        f"{'for one channel ' if one else ''}{fits}"
    )


def _constant(loss: Score, outputs: Tensor, targets: Tensor) -> float | None:
    """The loss of the outputs if noise of their scale has the same and neither has a gradient; None: it tells."""
    scale = float(outputs.std()) if outputs.numel() > 1 else 0.0
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(outputs.shape, generator=generator, dtype=outputs.dtype) * (scale or 1.0) + outputs.mean()
    found = []
    for x in (outputs, noise):
        x = x.detach().clone().requires_grad_(True)
        value = torch.as_tensor(loss(x, targets)).sum()
        if value.requires_grad:
            (gradient,) = torch.autograd.grad(value, x, allow_unused=True)
            if gradient is not None and bool((gradient != 0).any()):
                return None
        found.append(float(value.detach()))
    same = all(map(math.isfinite, found)) and math.isclose(*found, rel_tol=1e-6, abs_tol=1e-9)
    return found[0] if same else None
