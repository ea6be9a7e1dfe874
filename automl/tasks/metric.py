"""What a metric is: statistics of samples that add up, and what their sums come to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from automl.errors import ConfigError

Score = Callable[[Any, Tensor], Tensor]
"""(outputs, targets) -> one value a sample, [n, ...], or the mean over the batch, a scalar."""

Direction = Literal["maximize", "minimize"]

STEP = 1e-6
"""The part of a sum by which it is varied to find how a value depends on it."""


@runtime_checkable
class Accumulator(Protocol):
    """An accumulator is told of batches and then asked for the whole, as the metrics of torchmetrics are."""

    def update(self, outputs: Any, targets: Tensor) -> Any:
        """Take a batch into account."""
        ...

    def compute(self) -> Any:
        """The value over all batches so far: a number, or a tensor of one."""
        ...

    def reset(self) -> Any:
        """Forget all batches."""
        ...


@dataclass(frozen=True)
class Metric:
    """A metric scores outputs against targets; it says which direction is better, and how people read it.

    It has a `score`, or `statistics` with a `value`, or an `accumulator`. The first two have a standard error and can
    be raced about, unless the score is a mean over the batch; such a mean, weighted by the size of the batch, is in
    general not what the whole split comes to.
    """

    score: Score | None = None
    """(outputs, targets) -> one value a sample, [n, ...], whose mean is the metric; or the mean over the batch."""
    direction: Direction = "minimize"
    unit: Literal["", "%"] = ""
    """What it is shown in. `%`: it is a rate, recorded as a fraction from 0 to 1."""
    _: KW_ONLY
    statistics: Callable[[Any, Tensor], Tensor] | None = None
    """(outputs, targets) -> k numbers of each sample, [n, k], which are added up over the samples."""
    value: Callable[[Tensor], float] | None = None
    """The sums of the statistics, [k] in float64 -> the metric."""
    accumulator: Accumulator | None = None
    """An object that keeps its own account; it is copied and stays as it is."""

    def __post_init__(self) -> None:
        given = [self.score, self.statistics, self.accumulator]
        if sum(part is not None for part in given) != 1 or (self.value is None) != (self.statistics is None):
            raise ConfigError(
                "a metric is a `score`, or `statistics` and their `value`, or an `accumulator`: give one of these"
            )
        if self.direction not in ("maximize", "minimize"):
            raise ConfigError(f"the direction of a metric is maximize or minimize, got {self.direction!r}")

    def of(self, outputs: Any, targets: Tensor) -> float:
        """The metric over these samples."""
        if self.score is not None:
            return float(self.score(outputs, targets).double().mean())
        assert self.statistics is not None and self.value is not None
        return self.value(self.statistics(outputs, targets).double().sum(0))


def weighted_mean(sums: Tensor) -> float:
    """The first of two sums over the second: a mean of what counts, from totals and weights."""
    return float(sums[0] / sums[1])


def pseudo_values(rows: Tensor, value: Callable[[Tensor], float]) -> Tensor:
    """What each sample contributes to `value` of the sums of `rows`, [n, k] -> [n]; their mean is that value.

    To first order, by the gradient of `value` at the sums: the infinitesimal jackknife (Efron 1982, chapter 6), whose
    variance is that of the delta method. For a mean these are the values of the samples themselves.
    """
    sums, n = rows.sum(0), len(rows)
    if value is weighted_mean:
        totals, weights = rows.unbind(1)
        if bool((weights == weights[0]).all()):
            return totals / weights
        whole = value(sums)
        return whole + (totals - whole * weights) * (n / sums[1])
    return value(sums) + n * ((rows - rows.mean(0)) @ _gradient(rows, sums, value))


def _gradient(rows: Tensor, sums: Tensor, value: Callable[[Tensor], float]) -> Tensor:
    """How `value` changes with each sum, by central differences: [k]; 0 for what no sample has."""
    gradient = torch.zeros_like(sums)
    for j in rows.any(0).nonzero().flatten().tolist():
        step = torch.zeros_like(sums)
        step[j] = STEP * max(abs(float(sums[j])), float(rows[:, j].abs().max()))
        gradient[j] = (value(sums + step) - value(sums - step)) / (2 * step[j])
    return gradient


def as_metric(name: str, given: Any, direction: Direction | None = None) -> Metric:
    """What a user hands over as the metric `name`: a `Metric`, a function or an object with `update` and `compute`.

    `direction`: which is better, if the object does not say. Errors: `ConfigError`.
    """
    if isinstance(given, Metric):
        return given
    if isinstance(given, Accumulator):
        higher = getattr(given, "higher_is_better", None)  # so torchmetrics calls it
        told: Direction | None = None if higher is None else "maximize" if higher else "minimize"
        return Metric(direction=told or direction or "minimize", accumulator=given)
    if not callable(given):
        raise ConfigError(
            f"the metric {name!r} must be a function of (outputs, targets), a Metric, or an object with update, "
            f"compute and reset, got {type(given).__name__}"
        )
    return Metric(given, direction or "minimize")


def directed(metrics: Mapping[str, Any], objective: str | None, direction: Direction | None) -> dict[str, Metric]:
    """A user's `metrics` as such, the one that is the objective with the direction that is said to be better.

    `ConfigError` for what is no mapping, or no metric.
    """
    if not isinstance(metrics, Mapping):
        raise ConfigError(f"metrics must map names to functions of (outputs, targets), got {metrics!r:.80}")
    return {name: as_metric(name, given, direction if name == objective else None) for name, given in metrics.items()}


def direction_of(name: str | None, metrics: Mapping[str, Any] | None) -> Direction | None:
    """The better direction of a metric of the user's, if it says so itself; None: it must be told."""
    if not isinstance(name, str) or not isinstance(metrics, Mapping):  # what is neither is refused where it is read
        return None
    given = metrics.get(name)
    if isinstance(given, Metric) or getattr(given, "higher_is_better", None) is not None:
        return as_metric(name, given).direction
    return None
