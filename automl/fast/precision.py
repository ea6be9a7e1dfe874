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
from automl.tasks.batches import Batch
from automl.tasks.problem import Problem
from automl.tasks.scores import Scores

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


def choose_dtype(network: nn.Module, problem: Problem) -> torch.dtype:
    """bfloat16 where it is native and computes the same, float32 otherwise.

    The same means, for the original network on up to `SAMPLES` validation samples: `AGREEMENT` of the predictions, as
    the problem's kind compares them, and the loss within `LOSS_TOLERANCE`.
    """
    if not native_bfloat16():
        return torch.float32
    try:
        whole_loss, half_loss, agree = _compared(network, first(problem.validation, SAMPLES), problem)
    except (RuntimeError, TypeError, NotFiniteError):
        return torch.float32  # an operator without bfloat16, or an overflow
    if abs(half_loss - whole_loss) > LOSS_TOLERANCE * max(1.0, abs(whole_loss)):
        return torch.float32
    return torch.bfloat16 if agree >= AGREEMENT else torch.float32


def _compared(network: nn.Module, batches: Sequence[Batch], problem: Problem) -> tuple[float, float, float]:
    """The loss in float32 and in bfloat16, and which part of the predictions agree."""
    name = "loss" if "loss" in problem.metrics else problem.kind.headline
    loss = {name: problem.metrics[name]}
    forms = [(dtype, fast(network, dtype), Scores()) for dtype in (torch.float32, torch.bfloat16)]
    agreeing = 0.0
    for batch in batches:
        whole, half = (scores.add(quick, formatted([batch], dtype)[0], loss) for dtype, quick, scores in forms)
        agreeing += float(problem.kind.agreement(whole, half).mean()) * len(batch[1])
    whole_loss, half_loss = (scores.measurements()[0].value for _, _, scores in forms)
    return whole_loss, half_loss, agreeing / sum(len(targets) for _, targets in batches)


def first(batches: Sequence[Batch], samples: int) -> list[Batch]:
    """The first `samples` samples of `batches`, the last batch cropped."""
    few: list[Batch] = []
    for inputs, targets in batches:
        few.append((tuple(x[:samples] for x in inputs), targets[:samples]))
        samples -= len(few[-1][1])
        if not samples:
            break
    return few
