"""Metrics of a network over batches, each with its standard error."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from automl.errors import NotFiniteError
from automl.tasks.base import Score
from automl.tasks.batches import Batch
from automl.types import Measurement
from automl.util.modes import evaluating
from automl.util.threads import cpu_name


def measure_metrics(network: nn.Module, batches: Sequence[Batch], metrics: Mapping[str, Score]) -> list[Measurement]:
    """The mean of each metric over the samples of `batches`, as `network` computes it in eval mode.

    Raises `NotFiniteError` for NaN or infinite values.
    """
    scores = Scores()
    for batch in batches:
        scores.add(network, batch, metrics)
    return scores.measurements()


class Scores:
    """What a network scored so far, batch by batch."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self._values: dict[str, list[Tensor]] = {}

    def add(self, network: nn.Module, batch: Batch, metrics: Mapping[str, Score]) -> Any:
        """Run `network` on a batch, in eval mode, score its outputs, converted to float32, and return them."""
        inputs, targets = batch
        with evaluating(network), torch.inference_mode():
            outputs = tree_map(_float32, network(*inputs))
            self.sizes.append(len(targets))
            for name, metric in metrics.items():
                self._keep(name, metric(outputs, targets))
        return outputs

    def _keep(self, name: str, value: Any) -> None:
        value = torch.as_tensor(value).double()
        self._values.setdefault(name, []).append(value.reshape(len(value), -1).mean(1) if value.ndim else value)

    def of(self, metric: str) -> Tensor | None:
        """The value of each sample so far, [n]; None for a metric that has only a value a batch."""
        parts = self._values[metric]
        return torch.cat(parts) if parts[0].ndim else None

    def measurements(self) -> list[Measurement]:
        """The mean of each metric.

        A metric with a value a sample gets the standard error of its mean; one that is a mean over the batch is
        weighted by batch size and gets the standard error between batches (None for a single batch).
        """
        return [_mean(name, parts, self.sizes) for name, parts in self._values.items()]


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
