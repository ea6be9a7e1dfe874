"""The results of a study for people, from the record alone: a table, and what its figures mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from statistics import fmean, stdev

from automl.config.budget import PEAK
from automl.store import Rule, TrialRecord
from automl.store.meanings import COSTS, QUALITIES
from automl.study.selection import Recorded, Row, compared_with, final
from automl.types import BASE, Measurement, Phase
from automl.util.columns import fitted
from automl.util.duration import duration
from automl.util.quantities import in_bytes, in_unit, short, shown, with_error

Column = tuple[str, Callable[[Row], str]]

BUILT_IN = {*QUALITIES, *COSTS, PEAK, "loss", "pixel_accuracy", "divergence"}
"""What this program measures itself; every other metric is the user's own, or an objective that weighs several."""
RATES = {name for name, unit in QUALITIES.items() if unit == "0 to 1"} | {"pixel_accuracy"}
"""Metrics that were recorded without a unit before version 5, and are read in %."""


def table(found: Recorded, width: int | None = None) -> str:
    """One row a network: the original, then the best of each agent.

    Over several seeds mean ± standard deviation; of a single one ± the standard error. Columns in which nothing was
    measured are left out; with `width` also those for which there is no room, which a last line names.
    """
    original, goal = found.rows[0].best[0], found.goal
    names = list(dict.fromkeys((_measured(original)[0], goal.metric, *_own(original))))
    columns: list[Column] = [("network", lambda row: _name(row, found.winner))]
    for name in names:
        columns.append((f"val {name}", partial(_quality, metric=name)))  # validation
        columns.append(("untrained", partial(_quality, metric=name, phase=Phase.REFITTED)))
        columns.append((f"test {name}", partial(_quality, metric=name, phase=Phase.TEST)))
    columns += [
        ("MACs", lambda row: _share(row, "macs", original)),
        ("params", lambda row: _share(row, "params", original)),
        ("size", lambda row: _size(row)),
        ("memory", lambda row: _size(row, PEAK)),
        ("latency", lambda row: _latency(row.shown(goal))),
        ("trials", lambda row: str(row.trials)),
        ("time", lambda row: duration(row.wall_s)),
    ]
    cells = [[cell(row) for row in found.rows] for _, cell in columns]
    there = [i for i, column in enumerate(cells) if any(text != "-" for text in column)]
    lines = [[columns[i][0] for i in there], *([cells[i][k] for i in there] for k in range(len(found.rows)))]
    return fitted(lines, width)


def summary(found: Recorded) -> str:
    """The budget, what the winner keeps of it, and what the figures in the table mean."""
    winner, concluded = found.winner, found.concluded
    if winner is None or concluded is None:
        return "no winner yet: the study has not been finished. These are the best trials as the search saw them"
    finish = found.study.config.get("finish") or {}
    how = "rebuilt"
    if finish.get("reconstruction") == "blockwise":
        how = "tuned block by block"
    if finish.get("training") and found.trained:
        how = "trained"
    lines = [f"* the winner: trial {winner.number} of {winner.agent}, seed {winner.seed}, {how}{_kept(found, winner)}"]
    seeds = found.study.config.get("seeds") or ()
    if len(seeds) > 1:
        lines.append(f"mean ± standard deviation over the seeds {', '.join(map(str, seeds))}")
    if any(row.shown(found.goal).values_of(Phase.LATENCY) for row in found.rows):
        beside = compared_with(found.study.config)
        lines.append(f"latency: median of one sample on one thread, and its ratio to the {beside} in the same run")
    return "\n".join([*lines, *(f"note: {note}" for note in concluded.notes)])


def is_rate(metric: str, measured: Measurement | None) -> bool:
    """Whether people read a metric in %."""
    return metric in RATES or (measured is not None and measured.unit == "fraction")


def _kept(found: Recorded, winner: TrialRecord) -> str:
    """What the winner keeps of the budget and the guarantee."""
    assert found.concluded is not None
    rules = found.concluded.rules
    limits = set(found.study.config.get("limits", {}))
    counted = [rule for rule in rules if rule.phase is Phase.FINAL and rule.metric in limits]
    parts = [f"{rule.metric} {shown(rule.value)} of {shown(rule.bound)} allowed" for rule in counted]
    text = f" and counted: {', '.join(parts)}" if parts else ""
    for rule in rules:
        if rule.phase is Phase.CERTIFICATE:
            text += _timed(found, winner, rule)
        elif rule not in counted:
            unit = "%" if is_rate(rule.metric, winner.measured(rule.metric, Phase.SEARCH)) else ""
            text += f", {rule.metric} {in_unit(rule.value, unit)} where {rule.text!r} is guaranteed"
    return text


def _timed(found: Recorded, winner: TrialRecord, rule: Rule) -> str:
    """What the winner was certified to take, and what was predicted."""
    table = found.study.config.get("latency_table") or {}
    options = table.get("options", {})
    relative = rule.metric.startswith("latency_ratio")
    timed, predicted = winner.values_of(Phase.CERTIFICATE), final(winner, "predicted_latency_ms")
    promised = predicted / table["original_ms"] if relative and table else predicted
    median = timed["latency_ratio" if relative else "latency_ms"]
    measured, highest, allowed, told = (
        f"{part:.1%}" if relative else f"{part:.3g} ms" for part in (median, rule.value, rule.bound, promised)
    )
    backend = rule.text.partition(" on ")[2].strip() or "eager"
    where = f"batch {options.get('batch')}, threads {options.get('threads')}"
    error = f" (error on networks held out: {table['held_out']:.1%})" if "held_out" in table else ""
    return (
        f" and timed on {backend} beside the original ({where}): {measured}, at most {highest} of {allowed} allowed, "
        f"{told} predicted{error}"
    )


def _measured(original: TrialRecord) -> list[str]:
    """The metrics of the original, the headline of its kind of task first, costs left out."""
    names = [m.metric for m in original.measurements if m.phase is Phase.SEARCH and m.metric not in (*COSTS, PEAK)]
    return list(dict.fromkeys(names)) or ["loss"]


def _own(original: TrialRecord) -> list[str]:
    return [name for name in _measured(original) if name not in BUILT_IN]


def _name(row: Row, winner: TrialRecord | None) -> str:
    is_winners = winner is not None and row.agent != BASE and row.agent == winner.agent
    return f"{row.agent} *" if is_winners else row.agent


def _mean(row: Row, metric: str) -> float | None:
    values = [final(r, metric) for r in row.best if metric in r.values or metric in r.values_of(Phase.FINAL)]
    return fmean(values) if values else None


def _quality(row: Row, metric: str, phase: Phase = Phase.FINAL) -> str:
    """Mean and standard deviation over seeds, or one value and its standard error; what was not finished, as
    searched."""
    measured: Sequence[Measurement] = [m for record in row.best if (m := _of(record, phase, metric)) is not None]
    if not measured:
        return "-"
    values = [m.value for m in measured]
    spread = stdev(values) if len(values) > 1 else measured[0].spread
    return with_error(fmean(values), spread, percent=is_rate(metric, measured[0]))


def _of(record: TrialRecord, phase: Phase, metric: str) -> Measurement | None:
    found = record.measured(metric, phase)
    return record.measured(metric, Phase.SEARCH) if found is None and phase is Phase.FINAL else found


def _share(row: Row, metric: str, original: TrialRecord) -> str:
    value = _mean(row, metric)
    whole = original.values.get(metric) if original.agent == BASE else None
    if value is None or not whole:
        return "-" if value is None else short(value)
    return f"{short(value)} {value / whole:6.1%}"


def _size(row: Row, metric: str = "size_bytes") -> str:
    value = _mean(row, metric)
    return "-" if value is None else in_bytes(value)


def _latency(record: TrialRecord) -> str:
    timed = record.values_of(Phase.LATENCY)
    return f"{timed['latency_ms']:.3f} ms {timed['latency_ratio']:.2f}x" if timed else "-"
