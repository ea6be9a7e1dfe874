"""The last word on a budget: the finished network counted, and timed, for real."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from automl.config.budget import Term
from automl.config.latency import LatencyOptions
from automl.measures.latency_model import batch_of, compare_closely
from automl.types import Measurement, Phase


def certificate(
    network: nn.Module, original: nn.Module, term: Term, example_inputs: Sequence[Tensor], options: LatencyOptions
) -> Measurement:
    """What a budget's limit on latency is held against: `network` timed beside `original` in one run.

    For a relative limit the median ratio of their times, `latency_ratio`; for an absolute one the median time,
    `latency_ms`. `options`: the batch, made of `example_inputs` ([n, ...] each), and the threads.
    """
    inputs = batch_of(example_inputs, options.batch)
    comparison = compare_closely(original, {"network": network}, inputs, options.threads)
    measured = comparison.ratio("network") if term.relative else comparison.latency("network")
    return replace(measured, phase=Phase.CERTIFICATE)


def certified(term: Term) -> str:
    """The metric of the certificate for a limit on latency."""
    return "latency_ratio" if term.relative else "latency_ms"
