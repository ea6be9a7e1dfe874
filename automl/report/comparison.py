"""Several studies side by side: the winner of each beside its original."""

from __future__ import annotations

from collections.abc import Sequence

from automl.report.table import is_rate
from automl.store import Store, StudyRecord, TrialRecord
from automl.study.selection import Recorded
from automl.types import BASE, Measurement, Phase
from automl.util.columns import fitted
from automl.util.duration import duration
from automl.util.quantities import in_bytes, short, with_error

COSTS = {"macs": "MACs", "params": "params", "size_bytes": "size", "bops": "bops"}
"""Cost -> the title of its column."""


def comparison(store: Store, studies: Sequence[StudyRecord], width: int | None = None) -> str:
    """A row a study: its budget, its winner (of one that was not finished the best so far), what that is worth and
    costs. Columns in which no study has anything are left out."""
    titles = [
        "study",
        "budget",
        "trial",
        "validation",
        "test",
        "original",
        *COSTS.values(),
        "latency",
        "trials",
        "time",
    ]
    lines = [titles, *(_row(Recorded.read(store, study)) for study in studies)]
    there = [i for i in range(len(titles)) if any(line[i] not in ("", "-") for line in lines[1:])]
    return fitted([[line[i] for i in there] for line in lines], width, left=(0, 1, 2))


def _row(found: Recorded) -> list[str]:
    base = next((row.best[0] for row in found.rows if row.agent == BASE), None)
    others = [row for row in found.rows if row.agent != BASE]
    best = found.winner
    if best is None and others:
        every = [row.shown(found.goal) for row in others]
        best = max(every, key=lambda trial: trial.to_trial().utility(found.goal))
    budget = found.study.config.get("budget") or ()
    named = "" if best is None else f"{best.agent}/{best.seed}/{best.number}{' *' if found.winner else ''}"
    metric = found.goal.metric
    return [
        found.study.name,
        budget if isinstance(budget, str) else ", ".join(map(str, budget)),
        named,
        f"{metric} {_worth(best, metric, (Phase.FINAL, Phase.SEARCH))}",
        _worth(best, metric, (Phase.TEST,)),
        _worth(base, metric, (Phase.FINAL, Phase.SEARCH)),
        *(_cost(best, base, cost) for cost in COSTS),
        _worth(best, "latency_ratio", (Phase.LATENCY,)),
        str(sum(row.trials for row in others)),
        duration(sum(row.wall_s for row in others)),
    ]


def _measured(trial: TrialRecord | None, metric: str, phases: Sequence[Phase]) -> Measurement | None:
    """What counts of the first of `phases` that has any."""
    found = (trial.measured(metric, phase) for phase in phases) if trial is not None else ()
    return next((m for m in found if m is not None), None)


def _worth(trial: TrialRecord | None, metric: str, phases: Sequence[Phase]) -> str:
    m = _measured(trial, metric, phases)
    if m is None:
        return "-"
    return (
        f"{m.value:.2f}x" if phases == (Phase.LATENCY,) else with_error(m.value, m.spread, percent=is_rate(metric, m))
    )


def _cost(trial: TrialRecord | None, base: TrialRecord | None, cost: str) -> str:
    m, original = (_measured(t, cost, (Phase.FINAL, Phase.SEARCH)) for t in (trial, base))
    if m is None:
        return "-"
    text = in_bytes(m.value) if cost == "size_bytes" else short(m.value)
    return f"{text} {m.value / original.value:.1%}" if original is not None and original.value else text
