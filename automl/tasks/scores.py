"""Metrics of a network over batches, each with its standard error."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from automl.errors import NotFiniteError
from automl.measures.backends.device import cpu_name
from automl.tasks.batches import Batch
from automl.tasks.metric import Metric, pseudo_values
from automl.types import Measurement
from automl.util.modes import evaluating


def measure_metrics(network: nn.Module, batches: Sequence[Batch], metrics: Mapping[str, Metric]) -> list[Measurement]:
    """Each metric over the samples of `batches`, as `network` computes them in eval mode.

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
        self._tallies: dict[str, _Tally] = {}

    def add(self, network: nn.Module, batch: Batch, metrics: Mapping[str, Metric]) -> Any:
        """Run `network` on a batch, in eval mode, score its outputs, converted to float32, and return them."""
        inputs, targets = batch
        with evaluating(network), torch.inference_mode():
            outputs = tree_map(_float32, network(*inputs))
            self.sizes.append(len(targets))
            for name, metric in metrics.items():
                if name not in self._tallies:
                    self._tallies[name] = _Tally(metric)
                self._tallies[name].add(metric, outputs, targets)
        return outputs

    def of(self, metric: str, first: int | None = None) -> Tensor | None:
        """What each sample so far contributes to the metric, [n], by the `first` of them (None: all).

        Their mean is the metric over these samples. None for a metric that has only a value a batch, or a whole.
        """
        return self._tallies[metric].each(first)

    def measurements(self) -> list[Measurement]:
        """Each metric over all samples so far.

        A metric with statistics or a value a sample gets the standard error of the delta method; one that is a mean
        over the batch is weighted by batch size and gets the standard error between batches (None for a single batch);
        one that keeps its own account has none.
        """
        return [tally.measured(name, self.sizes) for name, tally in self._tallies.items()]


class _Tally:
    """A tally adds up what one metric says of batch after batch."""

    def __init__(self, metric: Metric) -> None:
        self._value = metric.value
        self._unit = metric.unit and "fraction"  # what people read in %
        self._rows: list[Tensor] = []
        """A value a sample [n], statistics [n, k], or the mean over a batch, a scalar."""
        self._account: Any = copy.deepcopy(metric.accumulator)
        if self._account is not None:
            self._account.reset()

    def add(self, metric: Metric, outputs: Any, targets: Tensor) -> None:
        """Take a batch into account, by a metric that may be another for each batch but of the same sort."""
        if self._account is not None:
            self._account.update(outputs, targets)
        elif metric.statistics is not None:
            self._rows.append(metric.statistics(outputs, targets).double())
        else:
            assert metric.score is not None
            value = torch.as_tensor(metric.score(outputs, targets)).double()
            self._rows.append(value.reshape(len(value), -1).mean(1) if value.ndim else value)

    def each(self, first: int | None = None) -> Tensor | None:
        """What each of the `first` samples contributes: [n]; None where that is unknown."""
        if self._account is not None or not self._rows[0].ndim:
            return None
        rows = torch.cat(self._rows)[:first]
        return rows if self._value is None else pseudo_values(rows, self._value)

    def measured(self, name: str, sizes: Sequence[int]) -> Measurement:
        """The metric over all batches, of these sizes."""
        spread: float | None = None
        if self._account is not None:
            value = float(self._account.compute())
        elif (each := self.each()) is None:
            means, weight = torch.stack(self._rows), torch.tensor(sizes, dtype=torch.float64) / sum(sizes)
            value = float((means * weight).sum())
            spread = _standard_error(float(((means - value) ** 2 * weight).sum()), len(means))
        else:
            value = float(each.mean()) if self._value is None else self._value(torch.cat(self._rows).sum(0))
            spread = _standard_error(float(each.var(correction=0)), len(each))
        if not math.isfinite(value):
            raise NotFiniteError(f"{name} is {value}")
        return Measurement(name, value, self._unit, sum(sizes), spread, cpu_name())


def _standard_error(variance: float, n: int) -> float | None:
    """Of a mean of `n` values, from their variance; None for a single one."""
    return math.sqrt(variance / (n - 1)) if n > 1 else None


def _float32(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
