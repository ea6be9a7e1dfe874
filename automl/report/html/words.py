"""Numbers, metrics and costs as readers want them: rates in percent, counts with a prefix, bytes by powers of 1000."""

from __future__ import annotations

import math
from datetime import datetime

Z95 = 1.96
"""Standard errors on either side of a mean that 95 % of normal errors stay within."""

_COSTS = {
    "macs": ("MACs", "multiply-accumulates"),
    "params": ("params", "parameters"),
    "bops": ("bit ops", "bit operations"),
    "peak_activation_bytes": ("memory", "peak memory of activations"),
    "size_bytes": ("size", "size of the file"),
    "predicted_latency_ms": ("latency", "predicted latency"),
    "latency_ms": ("latency", "latency"),
}
"""Cost -> its name in a table, and in a sentence."""

_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def cost_name(metric: str) -> str:
    """A cost's name at the head of a column."""
    return _COSTS[metric][0] if metric in _COSTS else metric


def cost_in_words(metric: str) -> str:
    """A cost's name within a sentence, and on an axis."""
    return _COSTS[metric][1] if metric in _COSTS else metric.replace("_", " ")


def unit_of(metric: str) -> str:
    """The unit of a cost on an axis; "" for a count."""
    return "bytes" if metric.endswith("_bytes") else "ms" if metric.endswith("_ms") else ""


def axis_title(name: str, unit: str) -> str:
    """A name with its unit, as axes have it."""
    return f"{name} ({unit})" if unit else name


def cost(metric: str, value: float) -> str:
    """A cost to three or four digits, with its unit."""
    if metric.endswith("_ms"):
        return f"{value:.3g} ms"
    if metric.endswith("_bytes"):
        return f"{_prefixed(value)}B"
    return _prefixed(value).strip()


def _prefixed(value: float) -> str:
    for size, letter in _PREFIXES:
        if abs(value) >= size:
            return f"{value / size:.4g} {letter}"
    return f"{value:.4g} "


def share(value: float, whole: float | None) -> str:
    """A part of the original in percent; "" where the original's is not known."""
    return f"{value / whole:.1%}".replace("%", " %") if whole else ""


def quality(value: float, rate: bool) -> str:
    """A metric of quality: a rate in percent, anything else to four digits."""
    return f"{100 * value:.2f} %" if rate else f"{value:.4g}"


def difference(value: float, rate: bool) -> str:
    """The size of a difference of two values of a metric: points of a rate."""
    return f"{abs(100 * value):.2f} points" if rate else f"{abs(value):.3g}"


def half_width(spread: float | None) -> float | None:
    """Half the 95 % interval of a mean whose standard error is `spread`; None where there is none."""
    return None if spread is None or not math.isfinite(spread) else Z95 * spread


def moment(when: datetime) -> str:
    """A moment to the minute, in UTC."""
    return f"{when:%Y-%m-%d %H:%M} UTC"


def listed(names: list[str]) -> str:
    """Names in a sentence: `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
