"""How trials ended: how many in each state, and why those did that were not evaluated to the end."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from agents import TrialState
from automl.report.html.as_recorded import AsRecorded

LISTED = 12
"""The most reasons that are listed, the most frequent first."""

ORDER = tuple(TrialState)


@dataclass(frozen=True)
class Reason:
    """Why trials ended, those together whose reasons differ in numbers alone."""

    state: str
    text: str
    """What the first of them gave."""
    trials: int
    example: str


@dataclass(frozen=True)
class Endings:
    """States with their numbers of trials, and the reasons."""

    states: Sequence[tuple[str, int]]
    reasons: Sequence[Reason]
    omitted: int
    """Reasons that are not listed."""
    lost: Sequence[tuple[str, int]]
    """Why attempts ended without an outcome, and how many did; their trials were handed out again."""


def endings(study: AsRecorded) -> Endings:
    """How the trials of a study ended."""
    counts = Counter(trial.state for trial in study.trials)
    first: dict[tuple[TrialState, str], tuple[str, str]] = {}
    grouped: Counter[tuple[TrialState, str]] = Counter()
    for trial in study.trials:
        if trial.reason and trial.state is not TrialState.DONE:
            key = (trial.state, _without_numbers(trial.reason))
            grouped[key] += 1
            first.setdefault(key, (trial.reason, f"{trial.agent}/{trial.seed}/{trial.number}"))
    reasons = [Reason(key[0].value, first[key][0], n, first[key][1]) for key, n in grouped.most_common()]
    lost = Counter(attempt.reason for attempt in study.attempts)
    return Endings(
        [(state.value, counts[state]) for state in ORDER if counts[state]],
        reasons[:LISTED],
        max(0, len(reasons) - LISTED),
        lost.most_common(LISTED),
    )


def _without_numbers(text: str) -> str:
    return re.sub(r"\d+(\.\d+)?", "0", text)
