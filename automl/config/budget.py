"""Budgets and guarantees as a user writes them, `macs <= 50%`, and what they mean for a network."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from automl.config.latency import EAGER, PREDICTED, known_backends
from automl.errors import ConfigError
from automl.util.names import nearest

PEAK = "peak_activation_bytes"
"""The cost that a limit on `peak_memory` is of, as `search_spaces.pricing.metrics` has it."""
METRICS = {
    "macs": ("macs", 1.0),
    "flops": ("macs", 0.5),  # one multiply-accumulate is two floating-point operations
    "params": ("params", 1.0),
    "bops": ("bops", 1.0),  # bit operations
    "size": ("size_bytes", 1.0),
    "size_bytes": ("size_bytes", 1.0),
    "peak_memory": (PEAK, 1.0),  # of the activations of one sample
    "latency": (PREDICTED, 1.0),
}
"""What a budget may name -> (cost metric, factor from the named unit to the metric's)."""

_COUNT_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_TIME_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_BYTE_UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_TERM = re.compile(
    r"\s*(?P<name>\w+)\s*(?P<sign><=|≤)\s*(?P<number>[\d_]*\.?\d+(?:[eE]\d+)?)\s*(?P<unit>%|[A-Za-z]*)"
    r"(?:\s+on\s+(?P<backend>[\w-]+))?\s*"
)
_EXAMPLES = "for example `macs <= 50%`, `params <= 120k`, `size <= 200 KB` or `latency <= 3.5 ms`"
_BOUND = re.compile(
    r"\s*(?P<metric>[A-Za-z_]\w*?)\s*(?P<sense>\b(?:drop|rise)\s*<=|>=|<=)\s*(?P<number>\d*\.?\d+)\s*(?P<percent>%?)\s*"
)
_RATE = "accuracy"
"""The metric that guarantees were first of, whose spelling may be any and whose unit is known before the task is."""


@dataclass(frozen=True)
class Term:
    """One upper limit, absolute in the metric's unit or relative to the original network."""

    metric: str
    value: float
    relative: bool
    backend: str = EAGER
    """What a latency is measured on; a share is then of the original's on the same library in float32."""

    def limit(self, base: float) -> float:
        """The upper limit in the metric's unit, for an original network that costs `base`."""
        return self.value * base if self.relative else self.value


@dataclass(frozen=True)
class Budget:
    """Upper limits that a network must meet all at once."""

    terms: tuple[Term, ...]
    text: str
    """As the user wrote it."""

    def limits(self, base: Mapping[str, float]) -> dict[str, float]:
        """Cost metric -> upper limit in the metric's unit, given what the original network costs."""
        return {term.metric: term.limit(base[term.metric]) for term in self.terms}

    @property
    def latency(self) -> Term | None:
        """The limit on latency, if there is one; its metric is the predicted latency, which a search keeps to."""
        return next((term for term in self.terms if term.metric == PREDICTED), None)


NO_BUDGET = Budget((), "no budget")


@dataclass(frozen=True)
class Guarantee:
    """What a metric must be on the validation data for a network to be reported, absolute or from the original's."""

    value: float
    """The least or the most, or for `relative` the most that may be lost; what is written in % as a fraction."""
    relative: bool
    text: str
    """As the user wrote it."""
    metric: str
    """The metric that is guaranteed."""
    upper: bool = False
    """Whether the metric may be at most, or rise by at most, so much; else at least, or drop."""
    percent: bool = True
    """Whether it is written in %: of a rate these are points, of another metric a part of the original's."""

    def bound(self, base: float, rate: bool = True) -> float:
        """The least or most that the metric may be, `base` for the original; `rate`: whether it is one."""
        if not self.relative:
            return self.value
        change = self.value * abs(base) if self.percent and not rate else self.value
        return base + change if self.upper else base - change

    def keeps(self, value: float, base: float, rate: bool) -> bool:
        """Whether a network of this value, beside an original of `base`, keeps the guarantee."""
        bound = self.bound(base, rate)
        return value <= bound if self.upper else value >= bound


def parse_budget(budget: str | Sequence[str]) -> Budget:
    """Read `"macs <= 50%"`, `"params <= 120k, size <= 200 KB"` or a list of such terms.

    Metrics are `macs`, `flops` (2 a MAC), `params`, `bops`, `size`, `peak_memory` (of the activations of one sample, in
    float32) and `latency`; counts take k, M and G, sizes and memory take B, KB, MB, GB (powers of 1000) and KiB, MiB,
    GiB, latencies take us, ms and s, and may be `on` a backend: `latency <= 40% on onnxruntime-int8`. A percentage is
    of the original network. Errors: `ConfigError`.
    """
    texts = [budget] if isinstance(budget, str) else list(budget)
    terms = [_parse_term(part) for text in texts for part in text.split(",")]
    if not terms:
        raise ConfigError(f"expected a budget, {_EXAMPLES}, got none")
    metrics = [term.metric for term in terms]
    twice = sorted({metric for metric in metrics if metrics.count(metric) > 1})
    if twice:
        raise ConfigError(f"the budget limits {twice[0]} more than once; keep the tighter limit")
    return Budget(tuple(terms), ", ".join(text.strip() for text in texts))


def _parse_term(text: str) -> Term:
    match = _TERM.fullmatch(text)
    if match is None:
        raise ConfigError(f"expected a budget, {_EXAMPLES}, got {text.strip()!r}")
    name, unit = match["name"].lower(), match["unit"].lower()
    if name not in METRICS:
        raise ConfigError(f"no budget on {match['name']!r}{nearest(name, METRICS)}")
    metric, factor = METRICS[name]
    backend = _backend(match, metric)
    number = float(match["number"].replace("_", ""))
    if unit == "%":
        if not 0 < number <= 100:
            raise ConfigError(f"a relative budget is above 0 and at most 100 %, got {text.strip()!r}")
        return Term(metric, number / 100, relative=True, backend=backend)
    units, expected = _units(metric)
    if unit not in units:
        raise ConfigError(f"expected the unit of {name} to be %, {expected}, got {text.strip()!r}")
    value = number * units[unit] * factor
    if value <= 0 or (value < 1 and metric != PREDICTED):
        least = "above 0" if metric == PREDICTED else "at least 1"
        raise ConfigError(f"a budget is {least}, got {text.strip()!r}; for a share write it with %")
    return Term(metric, value, relative=False, backend=backend)


def _backend(match: re.Match[str], metric: str) -> str:
    """What a latency is measured on."""
    name = match["backend"]
    if name is None:
        return EAGER
    if metric != PREDICTED:
        raise ConfigError(f"only a latency is measured on a backend, got {match.group().strip()!r}: leave `on` out")
    if name not in known_backends():
        raise ConfigError(f"no backend {name!r}{nearest(name, known_backends())}")
    return name


def written_as(metric: str) -> str:
    """What a budget calls a cost metric: `size` for `size_bytes`."""
    names = {of: name for name, (of, factor) in reversed(METRICS.items()) if factor == 1}
    return names.get(metric, metric)


def _units(metric: str) -> tuple[Mapping[str, float], str]:
    """Unit -> factor to the metric's own, and the units in words."""
    if metric == PREDICTED:
        return _TIME_UNITS, "us, ms or s"
    if metric in ("size_bytes", PEAK):
        return _BYTE_UNITS, "B, KB, MB, GB, KiB, MiB, GiB"
    return _COUNT_UNITS, "k, M, G or none"


def parse_guarantee(text: str) -> Guarantee:
    """Read `accuracy >= 90%`, `miou drop <= 1%` (points of a rate), `rmse <= 0.2` or `rmse rise <= 5%` (a part).

    Whether the metric is a rate, and which direction is better, the task says. Errors: `ConfigError`.
    """
    match = _BOUND.fullmatch(text.replace("≤", "<=").replace("≥", ">="))
    if match is None:
        raise ConfigError(
            f"expected a guarantee, `accuracy >= 90%` or `accuracy drop <= 1%` (in points), of another metric also "
            f"`rmse <= 0.2` or `rmse rise <= 5%`, got {text.strip()!r}"
        )
    metric = match["metric"].lower() if match["metric"].lower() == _RATE else match["metric"]
    sense, percent = match["sense"].split("<")[0].strip(), bool(match["percent"])
    value, upper = float(match["number"]) / (100 if percent else 1), sense in ("", "rise")
    guarantee = Guarantee(value, sense in ("drop", "rise"), text.strip(), metric, upper, percent)
    if metric == _RATE:
        require_fitting(guarantee, rate=True, more_is_better=True)
    return guarantee


def require_fitting(guarantee: Guarantee, *, rate: bool, more_is_better: bool) -> None:
    """Raise `ConfigError` unless a guarantee is written as its metric is read, and bounds its worse side."""
    name = guarantee.metric
    if guarantee.upper == more_is_better:
        words = ("at least: `>=` or `drop <=`", "more") if more_is_better else ("at most: `<=` or `rise <=`", "less")
        raise ConfigError(
            f"of {name} {words[1]} is better, so that it is guaranteed {words[0]}, got {guarantee.text!r}"
        )
    if rate and not guarantee.percent:
        raise ConfigError(f"the metric {name} is a rate: write its guarantee in %, got {guarantee.text!r}")
    if rate and guarantee.value > 1:
        raise ConfigError(f"the metric {name} is at most 100 %, got {guarantee.text!r}")
    if not rate and guarantee.percent and not guarantee.relative:
        raise ConfigError(f"the metric {name} is no rate: write its guarantee without %, got {guarantee.text!r}")
