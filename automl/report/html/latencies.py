"""How long the networks that are reported take, side by side, with the middle half of the rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from automl.report.html.as_recorded import AsRecorded
from automl.store import TrialRecord
from automl.types import BASE, Phase


@dataclass(frozen=True)
class Timed:
    """One network: the median of its rounds, and the interquartile range around it."""

    name: str
    agent: str
    ms: float
    low: float
    high: float
    ratio: str
    """How many times as long as the original, in the same run."""
    told: str


@dataclass(frozen=True)
class Latencies:
    """Those of a study, and how they were measured."""

    timed: Sequence[Timed]
    caption: str


def latencies(study: AsRecorded) -> Latencies | None:
    """The networks that were timed; None if none was."""
    trials = [*([study.base] if study.base is not None else []), *study.trials]
    found = [_timed(trial, study.compared_with) for trial in trials if trial.measured("latency_ms", Phase.LATENCY)]
    if not found:
        return None
    sample = next(m for t in trials if (m := t.measured("latency_ms", Phase.LATENCY)) is not None)
    caption = (
        f"Medians of {sample.n} interleaved rounds of one sample on {sample.device or 'an unnamed device'}; bars: the "
        f"middle half of the rounds. Ratios are of the same run, and hold where times drift."
    )
    return Latencies(found, caption)


def _timed(trial: TrialRecord, first: str) -> Timed:
    taken, ratio = trial.measured("latency_ms", Phase.LATENCY), trial.measured("latency_ratio", Phase.LATENCY)
    assert taken is not None
    half = (taken.spread or 0.0) / 2
    name = first if trial.agent == BASE else f"{trial.agent}, seed {trial.seed}"
    times = f"{ratio.value:.2f}\N{MULTIPLICATION SIGN}" if ratio is not None else ""
    told = f"{name}: {taken.value:.3g} ms, interquartile range {taken.spread or 0:.2g} ms; {times} the {first}"
    return Timed(name, trial.agent, taken.value, max(0.0, taken.value - half), taken.value + half, times, told)
