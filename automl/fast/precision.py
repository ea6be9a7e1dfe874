"""The form in which a network is evaluated fastest without harming what is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from automl.errors import NotFiniteError
from automl.fast.fold import folded
from automl.fast.fuse import fuse
from automl.tasks.metrics import measure_metrics
from automl.tasks.problem import Batch, Metric

SAMPLES = 2000
"""How many samples decide whether bfloat16 does."""
AGREEMENT = 0.995
"""The fraction of predictions that must agree with float32."""
LOSS_TOLERANCE = 0.01
"""How far the loss may move, as a fraction of it and at least in absolute terms."""


def fast(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy of `network` for evaluation in `dtype`: batch norms folded, steps fused, channels last."""
    return converted(fuse(folded(network), dtype), dtype)


def converted(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """`network`, changed in place to `dtype` and channels last; batch norms stay float32, bfloat16 would blur them."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    network.to(dtype=dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for norm in norms:
        norm.float()
    return network


def formatted(batches: Sequence[Batch], dtype: torch.dtype) -> list[Batch]:
    """`batches` with floating-point inputs in `dtype`, images channels last."""
    return [(tuple(_formatted(x, dtype) for x in inputs), targets) for inputs, targets in batches]


def _formatted(x: Tensor, dtype: torch.dtype) -> Tensor:
    if x.is_floating_point():
        x = x.to(dtype)
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x.contiguous()


def native_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 matrices itself; emulation is slower than float32."""
    capabilities: Mapping[str, Any] = getattr(
        torch.cpu, "get_capabilities", dict
    )()  # newer than the oldest PyTorch we support
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16", "bf16"))


def choose_dtype(network: nn.Module, batches: Sequence[Batch], metrics: Mapping[str, Metric]) -> torch.dtype:
    """bfloat16 where it is native and computes the same, float32 otherwise.

    The same means, for the original network on up to `SAMPLES` validation samples: `AGREEMENT` of the predictions
    (where outputs are class scores, that is where `accuracy` is a metric) and the loss within `LOSS_TOLERANCE`.
    """
    if not native_bfloat16():
        return torch.float32
    few = first(batches, SAMPLES)
    try:
        whole, whole_loss = _judge(network, few, metrics, torch.float32)
        half, half_loss = _judge(network, few, metrics, torch.bfloat16)
    except (RuntimeError, TypeError, NotFiniteError):
        return torch.float32  # an operator without bfloat16, or an overflow
    if abs(half_loss - whole_loss) > LOSS_TOLERANCE * max(1.0, abs(whole_loss)):
        return torch.float32
    same = [float((a == b).float().mean()) for a, b in zip(whole, half, strict=True)]
    weight = [len(targets) for _, targets in few]
    agree = sum(s * w for s, w in zip(same, weight, strict=True)) / sum(weight)
    return torch.bfloat16 if agree >= AGREEMENT else torch.float32


def _judge(
    network: nn.Module, batches: Sequence[Batch], metrics: Mapping[str, Metric], dtype: torch.dtype
) -> tuple[list[Tensor], float]:
    """Predictions of each batch, and the loss."""
    predictions: list[Tensor] = []

    def predicted(outputs: Any, targets: Tensor) -> Tensor:
        predictions.append(outputs.argmax(1) if "accuracy" in metrics else torch.zeros(1))
        return torch.zeros(())

    watched = {"loss": metrics["loss"], "predictions": predicted}
    loss, _ = measure_metrics(fast(network, dtype), formatted(batches, dtype), watched)
    return predictions, loss.value


def first(batches: Sequence[Batch], samples: int) -> list[Batch]:
    """The first `samples` samples of `batches`, the last batch cropped."""
    few: list[Batch] = []
    for inputs, targets in batches:
        few.append((tuple(x[:samples] for x in inputs), targets[:samples]))
        samples -= len(few[-1][1])
        if not samples:
            break
    return few
