"""Metrics of a network over batches, each with its standard error."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from automl.measures import cpu_name
from automl.measures.modes import evaluating
from automl.problem import Batch, Metric
from automl.types import Measurement


class NotFiniteError(ArithmeticError):
    """A metric came out as NaN or infinite."""


def measure_metrics(
    network: nn.Module, batches: Sequence[Batch], metrics: Mapping[str, Metric], *, prefix: str = ""
) -> list[Measurement]:
    """The mean of each metric over the samples of `batches`, as `network` computes it in eval mode.

    A metric with a value a sample gets the standard error of its mean; one that is a mean over the batch is
    weighted by batch size and gets the standard error between batches (None for a single batch). Outputs are
    converted to float32 first. Raises `NotFiniteError` for NaN or infinite values.
    """
    values: dict[str, list[Tensor]] = {name: [] for name in metrics}
    sizes: list[int] = []
    with evaluating(network), torch.inference_mode():
        for inputs, targets in batches:
            outputs = tree_map(_float32, network(*inputs))
            sizes.append(len(targets))
            for name, metric in metrics.items():
                value = torch.as_tensor(metric(outputs, targets)).double()
                values[name].append(value.reshape(len(value), -1).mean(1) if value.ndim else value)
    return [_mean(prefix + name, parts, sizes) for name, parts in values.items()]


def _mean(metric: str, parts: list[Tensor], sizes: list[int]) -> Measurement:
    total = sum(sizes)
    if parts[0].ndim:
        each = torch.cat(parts)
        mean, variance = float(each.mean()), float(each.var(correction=0))
    else:
        each, weight = torch.stack(parts), torch.tensor(sizes, dtype=torch.float64) / total
        mean = float((each * weight).sum())
        variance = float(((each - mean) ** 2 * weight).sum())
    if not math.isfinite(mean):
        raise NotFiniteError(f"{metric} is {mean}")
    spread = math.sqrt(variance / (len(each) - 1)) if len(each) > 1 else None
    return Measurement(metric, mean, n=total, spread=spread, device=cpu_name())


def _float32(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
