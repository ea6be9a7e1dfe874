"""The last word on a budget: the finished network counted, and timed, for real."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from automl.budget import Term
from automl.measures import count_macs, count_params, size_bytes
from automl.measures.latency_table import LatencyOptions, batch_of, compare_closely
from automl.types import Measurement

COUNTED = ("macs", "params", "size_bytes")


def counts(network: nn.Module, example_inputs: Sequence[Tensor]) -> list[Measurement]:
    """MACs per sample, parameters and bytes of the safetensors file of `network`, counted on it."""
    return [
        Measurement("macs", count_macs(network, example_inputs), "MAC"),
        Measurement("params", count_params(network)),
        Measurement("size_bytes", size_bytes(network), "B"),
    ]


def excess(measured: Sequence[Measurement], limits: Mapping[str, float]) -> str | None:
    """Which of `limits` (metric -> upper limit) the measurements exceed, in words, or None."""
    over = [m for m in measured if m.metric in limits and m.value > limits[m.metric]]
    return ", ".join(f"{m.metric} {shown(m.value)} > {shown(limits[m.metric])}" for m in over) or None


def shown(cost: float) -> str:
    """A count whole, a time in ms to the microsecond."""
    return f"{cost:,.0f}" if cost >= 1000 else f"{round(cost, 3):,.12g}"


def certificate(
    network: nn.Module, original: nn.Module, term: Term, example_inputs: Sequence[Tensor], options: LatencyOptions
) -> Measurement:
    """What a budget's limit on latency is held against: `network` timed beside `original` in one run.

    For a relative limit the median ratio of their times, `certified_latency_ratio`; for an absolute one the median
    time, `certified_latency_ms`. `options`: the batch, made of `example_inputs` ([n, ...] each), and the threads.
    """
    inputs = batch_of(example_inputs, options.batch)
    comparison = compare_closely(original, {"network": network}, inputs, options.threads)
    measured = comparison.ratio("network") if term.relative else comparison.latency("network")
    return replace(measured, metric=certified(term))


def certified(term: Term) -> str:
    """The metric of the certificate for a limit on latency."""
    return "certified_latency_ratio" if term.relative else "certified_latency_ms"
