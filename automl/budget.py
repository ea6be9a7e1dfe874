"""Budgets as a user writes them, `macs <= 50%`, and the absolute limits they mean for a network."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from automl._names import nearest
from automl.errors import ConfigError

METRICS = {
    "macs": ("macs", 1.0),
    "flops": ("macs", 0.5),  # one multiply-accumulate is two floating-point operations
    "params": ("params", 1.0),
    "size": ("size_bytes", 1.0),
    "size_bytes": ("size_bytes", 1.0),
}
"""What a budget may name -> (cost metric, factor from the named unit to the metric's)."""

_COUNT_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_BYTE_UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_TERM = re.compile(
    r"\s*(?P<name>\w+)\s*(?P<sign><=|≤)\s*(?P<number>[\d_]*\.?\d+(?:[eE]\d+)?)\s*(?P<unit>%|[A-Za-z]*)\s*"
)
_EXAMPLES = "for example `macs <= 50%`, `params <= 120k` or `size <= 200 KB`"


@dataclass(frozen=True)
class Term:
    """One upper limit, absolute in the metric's unit or relative to the original network."""

    metric: str
    value: float
    relative: bool

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


def parse_budget(budget: str | Sequence[str]) -> Budget:
    """Read `"macs <= 50%"`, `"params <= 120k, size <= 200 KB"` or a list of such terms.

    Metrics are `macs`, `flops` (2 a MAC), `params` and `size`; counts take k, M and G, sizes take B, KB, MB, GB (powers
    of 1000) and KiB, MiB, GiB. A percentage is of the original network. Errors: `ConfigError`.
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
    number = float(match["number"].replace("_", ""))
    if unit == "%":
        if not 0 < number <= 100:
            raise ConfigError(f"a relative budget is above 0 and at most 100 %, got {text.strip()!r}")
        return Term(metric, number / 100, relative=True)
    units = _BYTE_UNITS if metric == "size_bytes" else _COUNT_UNITS
    if unit not in units:
        expected = "B, KB, MB, GB, KiB, MiB, GiB" if metric == "size_bytes" else "k, M, G or none"
        raise ConfigError(f"expected the unit of {name} to be %, {expected}, got {text.strip()!r}")
    if number * units[unit] * factor < 1:
        raise ConfigError(f"a budget is at least 1, got {text.strip()!r}; for a share write it with %")
    return Term(metric, number * units[unit] * factor, relative=False)
