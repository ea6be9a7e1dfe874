"""Latency of networks in memory, side by side: what one is worth beside another in eager PyTorch."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from automl.measures.backends.device import cpu_name
from automl.measures.backends.intervals import Estimate
from automl.measures.backends.side_by_side import Comparison, Effort, side_by_side
from automl.types import Measurement
from automl.util.modes import evaluating
from automl.util.threads import pinned_threads


@dataclass(frozen=True)
class LatencyComparison:
    """A comparison as measurements for the database. The first network is the reference."""

    times: Comparison
    device: str

    def latency(self, name: str) -> Measurement:
        """The median time of a forward pass, in ms, with its interquartile range."""
        return as_measurement("latency_ms", self.times.latency_ms(name), "ms", self.device)

    def ratio(self, name: str) -> Measurement:
        """The median ratio of this network's time to the reference's in the same round; below 1 is faster."""
        return as_measurement("latency_ratio", self.times.ratio(name), "", self.device)


def as_measurement(metric: str, estimate: Estimate, unit: str, device: str) -> Measurement:
    """An estimate as the database holds it."""
    return Measurement(metric, estimate.value, unit, estimate.n, estimate.spread, device)


def device_of(threads: int) -> str:
    """What a latency in eager PyTorch was measured on."""
    return f"{cpu_name()}, {threads} thread{'s' if threads > 1 else ''}"


def compare_latency(
    networks: Mapping[str, nn.Module], inputs: Sequence[Tensor], *, threads: int = 1, effort: Effort | None = None
) -> LatencyComparison:
    """Time a forward pass of each network over `inputs`, [n, ...] each as given, in turn (`side_by_side`).

    Runs in eval mode with `threads` threads; modes and thread count are restored.
    """
    with evaluating(*networks.values()), torch.inference_mode(), pinned_threads(threads):
        clock = time.thread_time if threads == 1 else time.perf_counter
        runs = {name: partial(network, *inputs) for name, network in networks.items()}
        return LatencyComparison(side_by_side(runs, effort, clock), device_of(threads))


def batch_of(example_inputs: Sequence[Tensor], size: int) -> tuple[Tensor, ...]:
    """`size` samples of each input, those given over and over: [size, ...]."""
    return tuple(x[[i % len(x) for i in range(size)]] for x in example_inputs)
