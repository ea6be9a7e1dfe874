"""The last word on a budget: the finished network counted for real."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from automl.errors import BudgetError
from automl.measures import count_macs, count_params, size_bytes
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
    return ", ".join(f"{m.metric} {m.value:,.0f} > {limits[m.metric]:,.0f}" for m in over) or None


def certify(network: nn.Module, limits: Mapping[str, float], example_inputs: Sequence[Tensor]) -> list[Measurement]:
    """The counts of `network`; a `BudgetError` if one exceeds `limits`, whatever a search may have predicted.

    `limits`: upper limits of `macs`, `params` and `size_bytes`, absolute; another metric is a `BudgetError` too.
    """
    unknown = sorted(set(limits) - set(COUNTED))
    if unknown:
        raise BudgetError(f"no budget on {unknown[0]!r} can be certified: expected {', '.join(COUNTED)}")
    measured = counts(network, example_inputs)
    over = excess(measured, limits)
    if over:
        raise BudgetError(f"the network exceeds its budget: {over}. Nothing should be shipped from this trial")
    return measured
