"""The table of results with intervals: the original network, the best of each agent, the network that was reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from automl.report.html import words
from automl.report.html.as_recorded import AsRecorded
from automl.store import TrialRecord
from automl.study.selection import final
from automl.types import Phase
from automl.util.duration import duration

COSTS = ("macs", "params", "bops", "size_bytes", "peak_activation_bytes", "predicted_latency_ms")
"""The costs that have a column, those of them that are on record."""


@dataclass(frozen=True)
class Value:
    """A figure with what it may be off by, both as text; "" where nothing is known."""

    text: str = ""
    beside: str = ""
    """What stands smaller beside it: half an interval, or the part of the original."""


@dataclass(frozen=True)
class Standing:
    """A row of the table."""

    name: str
    about: str
    """Which trial of which seed."""
    cells: Sequence[Value]
    """One a column."""
    kind: str
    """base, agent or winner."""


@dataclass(frozen=True)
class Standings:
    """The table: the heads of its columns, and its rows."""

    columns: Sequence[str]
    rows: Sequence[Standing]
    caption: str


def standings(study: AsRecorded) -> Standings:
    """The table of a study, with the columns that anything is known of."""
    metric = study.goal.metric
    bests = {agent: _bests(study, agent) for agent in study.agents}
    groups: list[tuple[str, str, list[TrialRecord], str]] = []
    if study.base is not None:
        told = "as it was given" if study.compared_with == "original" else "made by hand"
        groups.append((study.compared_with, told, [study.base], "base"))
    groups += [(agent, _about(found), found, "agent") for agent, found in bests.items() if found]
    if study.winner is not None:
        trial = study.winner
        groups.append(("winner", f"{trial.agent}, seed {trial.seed}, trial {trial.number}", [trial], "winner"))
    costs = [c for c in COSTS if any(c in t.values for _, _, found, _ in groups for t in found)]
    phases = {"as searched": Phase.SEARCH, "untrained": Phase.REFITTED, "finished": Phase.FINAL, "test": Phase.TEST}
    wanted = {
        title: phase
        for title, phase in phases.items()
        if any(t.measured(metric, phase) for _, _, found, _ in groups for t in found)
    }
    rows = [
        Standing(
            name,
            about,
            [
                *(_quality(study, found, phase) for phase in wanted.values()),
                *(_cost(study, found, c) for c in costs),
                *_spent(study, name, kind),
            ],
            kind,
        )
        for name, about, found, kind in groups
    ]
    columns = [*(f"{metric}, {title}" for title in wanted), *map(words.cost_name, costs), "trials", "time"]
    return Standings(columns, rows, _caption(study, any(len(found) > 1 for found in bests.values())))


def _bests(study: AsRecorded, agent: str) -> list[TrialRecord]:
    """The best trial of each seed of an agent."""
    found = (study.best(lane) for (name, _), lane in study.lanes.items() if name == agent)
    return [best for best in found if best is not None]


def _about(found: Sequence[TrialRecord]) -> str:
    if len(found) == 1:
        return f"seed {found[0].seed}, trial {found[0].number}"
    return f"mean of {len(found)} seeds"


def _quality(study: AsRecorded, found: Sequence[TrialRecord], phase: Phase) -> Value:
    """Mean over the seeds ± their standard deviation; of one seed the value ± half its 95 % interval."""
    rate = study.goal.metric in study.rates
    known = [m for t in found if (m := t.measured(study.goal.metric, phase)) is not None]
    if not known:
        return Value()
    off = stdev(m.value for m in known) if len(known) > 1 else words.half_width(known[0].spread)
    text = words.quality(fmean(m.value for m in known), rate)
    if off is None:
        return Value(text)
    return Value(text, f"± {100 * off:.2f}" if rate else f"± {off:.2g}")


def _cost(study: AsRecorded, found: Sequence[TrialRecord], metric: str) -> Value:
    known = [t for t in found if metric in t.values]
    if not known:
        return Value()
    mean = fmean(final(t, metric) for t in known)
    base = study.base
    whole = final(base, metric) if base is not None and metric in base.values else None
    return Value(words.cost(metric, mean), words.share(mean, whole))


def _spent(study: AsRecorded, name: str, kind: str) -> tuple[Value, Value]:
    """Trials, and the time that workers spent on them."""
    if kind == "winner":
        return Value(), Value()
    trials = [study.base] if kind == "base" else [t for (a, _), lane in study.lanes.items() if a == name for t in lane]
    seconds = sum(t.wall_s or 0.0 for t in trials if t is not None)
    return Value(f"{len(trials):,}"), Value(duration(seconds))


def _caption(study: AsRecorded, seeds: bool) -> str:
    rate = study.goal.metric in study.rates
    unit = " in points" if rate else ""
    text = f"After ±: half of a 95 % interval{unit}, from the standard error over the samples of that split."
    if seeds:
        text = (
            f"After ±: over several seeds their standard deviation{unit}, of a single network half of a 95 % interval "
            f"over the samples of that split."
        )
    if study.winner is not None and study.winner.measured(study.goal.metric, Phase.FINAL):
        text += " As searched: by which trials were compared; finished: refitted with more care on all validation data."
    if study.winner is not None and study.winner.measured(study.goal.metric, Phase.TEST):
        text += " Test data were touched once, at the end."
    return text
