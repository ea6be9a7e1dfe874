"""Medians with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

RESAMPLES = 2000
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True)
class Estimate:
    """A median and its 95 % interval."""

    value: float
    low: float
    high: float
    n: int
    """Rounds."""
    spread: float
    """The interquartile range of the rounds."""

    @property
    def half_width(self) -> float:
        """Half the interval, as a part of the value."""
        return (self.high - self.low) / 2 / self.value

    def to_record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def estimated(values: np.ndarray) -> Estimate:
    """The median of `values`, [n], with the percentile bootstrap's 95 % interval (Efron 1979)."""
    resampled = values[np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))]
    low, high = np.percentile(np.median(resampled, axis=1), [2.5, 97.5])
    first, third = np.percentile(values, [25, 75])
    return Estimate(float(np.median(values)), float(low), float(high), len(values), float(third - first))


def pooled(estimates: Sequence[Estimate]) -> Estimate:
    """One estimate of several processes' ones: the median of their medians, and an interval that holds all of theirs.

    Where memory lies differs from process to process and not within one, so that the interval of a single process says
    too little about the next.
    """
    return Estimate(
        float(np.median([one.value for one in estimates])),
        min(one.low for one in estimates),
        max(one.high for one in estimates),
        sum(one.n for one in estimates),
        max(one.spread for one in estimates),
    )


def quantiles(values: np.ndarray) -> dict[str, float]:
    """Level -> quantile of `values`, [n]."""
    return {f"{level:g}": float(value) for level, value in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True)}
