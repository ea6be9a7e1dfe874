"""Why a trial comes to nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from automl.errors import NotFiniteError
from automl.util.modes import evaluating


def require_finite(network: nn.Module) -> None:
    """Raise `NotFiniteError` for NaN or infinite weights: a fused ReLU turns NaN into 0 and would hide them."""
    sick = [name for name, parameter in network.named_parameters() if not parameter.isfinite().all()]
    sick += [name for name, buffer in network.named_buffers() if buffer.isnan().any()]
    if sick:
        raise NotFiniteError(f"{sick[0]} is not finite")


def require_any_batch(network: nn.Module, inputs: Sequence[Tensor]) -> None:
    """Run a network on one sample more than `inputs` have, [n, ...] each.

    One into which the size of the batch is written raises.
    """
    with evaluating(network), torch.inference_mode():
        network(*(torch.cat([x, x[:1]]) for x in inputs))


def lacks_memory(error: Exception) -> bool:
    """Whether Python, a device, or torch's allocator for the CPU, whose error has no type of its own, ran out of it."""
    text = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in text or "allocate memory" in text)
    )


def reason_of(error: Exception) -> str:
    """Why a trial failed, in one line."""
    text = " ".join(str(error).split())
    if isinstance(error, NotFiniteError):
        return text
    kind = "out of memory" if lacks_memory(error) else type(error).__name__
    return f"{kind}: {text}" if text else kind
