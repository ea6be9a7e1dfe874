"""Latency of networks side by side: what one is worth beside another on this machine, and how sure that is."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from automl.types import Measurement
from automl.util.modes import evaluating
from automl.util.threads import cpu_name, pinned_threads

STEADY = 0.10
"""The reference's times may drift or spread by this fraction before a comparison is called unsteady."""


@dataclass(frozen=True)
class LatencyComparison:
    """Times of several networks measured in turn, round by round. The first one is the reference."""

    rounds_ms: Mapping[str, np.ndarray]
    """Network name -> mean time of one forward pass in each round: [rounds], in ms."""
    device: str

    @property
    def reference(self) -> str:
        """The name of the network that the others are compared with."""
        return next(iter(self.rounds_ms))

    def latency(self, name: str) -> Measurement:
        """Median time of a forward pass over the rounds, in ms, with its interquartile range."""
        return _median("latency_ms", self.rounds_ms[name], "ms", self.device)

    def ratio(self, name: str) -> Measurement:
        """Median over the rounds of this network's time by the reference's in the same round; below 1 is faster.

        Pairing cancels whatever slows the machine for longer than a round, so this is far steadier than the times.
        """
        paired = self.rounds_ms[name] / self.rounds_ms[self.reference]
        return _median("latency_ratio", paired, "", self.device)

    @property
    def drift(self) -> float:
        """How far the reference's median moved from the first half of the rounds to the second, as a fraction."""
        times = self.rounds_ms[self.reference]
        half = len(times) // 2
        if not half:
            return 0.0
        return float(np.median(times[-half:]) / np.median(times[:half]) - 1)

    @property
    def unsteady(self) -> str | None:
        """What is wrong with the machine's pace, by the reference's own times, or None if it was steady."""
        reference = self.latency(self.reference)
        spread = (reference.spread or 0.0) / reference.value
        if abs(self.drift) <= STEADY and spread <= STEADY:
            return None
        return (
            f"the machine's pace was unsteady: over {reference.n} rounds the reference drifted by "
            f"{self.drift:+.0%} and spread by {spread:.0%} (interquartile range by median), where "
            f"{STEADY:.0%} is steady. Trust the ratios rather than the times, or measure again on an idle machine"
        )


def _median(metric: str, values: np.ndarray, unit: str, device: str) -> Measurement:
    low, middle, high = np.percentile(values, [25, 50, 75])
    return Measurement(metric, float(middle), unit, len(values), float(high - low), device)


def compare_latency(
    networks: Mapping[str, nn.Module],
    inputs: Sequence[Tensor],
    *,
    rounds: int = 15,
    threads: int = 1,
    round_ms: float = 30.0,
) -> LatencyComparison:
    """Time a forward pass of each network over `inputs`, [n, ...] each as given, interleaved.

    In every round each network in turn runs for about `round_ms` (at least once), in an order that reverses from
    round to round, so that a change of pace meets all of them. The first network is the reference. Runs in eval
    mode with `threads` threads; modes and thread count are restored. On a shared machine a single time means
    little: measured on an idle two-core one, times vary by 3 to 9 %, ratios of the same rounds by 0.4 to 2.6 %.
    """
    if not networks:
        raise ValueError("expected at least one network to time, got none")
    if rounds < 1:
        raise ValueError(f"expected at least one round, got {rounds}")
    with evaluating(*networks.values()), torch.inference_mode(), pinned_threads(threads):
        loops = {name: _loops(network, inputs, round_ms) for name, network in networks.items()}
        times: dict[str, list[float]] = {name: [] for name in networks}
        order = list(networks)
        for _ in range(rounds):
            for name in order:
                times[name].append(_time_ms(networks[name], inputs, loops[name]))
            order.reverse()
    device = f"{cpu_name()}, {threads} thread{'s' if threads > 1 else ''}"
    return LatencyComparison({name: np.array(times[name]) for name in networks}, device)


def _loops(network: nn.Module, inputs: Sequence[Tensor], round_ms: float) -> int:
    """How many passes last about `round_ms`; running them warms caches and memory up."""
    loops = 1
    _time_ms(network, inputs, loops)
    while True:
        once = _time_ms(network, inputs, loops)
        if once * loops >= round_ms / 2:
            return max(1, round(round_ms / once))
        loops *= 2


def _time_ms(network: nn.Module, inputs: Sequence[Tensor], loops: int) -> float:
    """The mean time of one pass over `loops` passes, in ms."""
    start = time.perf_counter()
    for _ in range(loops):
        network(*inputs)
    return (time.perf_counter() - start) * 1e3 / loops
