"""One trial in full: what became of it, what was measured in each phase, what it chose."""

from __future__ import annotations

from automl.report.table import is_rate
from automl.store import Store, StudyRecord, TrialRecord, conclusion
from automl.types import Measurement, Phase
from automl.util.columns import fitted
from automl.util.duration import duration
from automl.util.quantities import shown, with_error
from search_spaces import Knob


def told(store: Store, study: StudyRecord, trial: TrialRecord, width: int | None = None) -> str:
    """All that is on record of `trial`, in lines of at most `width`."""
    parts = [_head(store, study, trial), _measured(trial, width), _choices(study, trial, width)]
    files = [artifact for artifact in store.artifacts(study.id) if artifact.trial_id == trial.id]
    parts += [f"{artifact.kind}: {artifact.path}\n  sha256 {artifact.sha256}" for artifact in files]
    return "\n\n".join(part for part in parts if part)


def _head(store: Store, study: StudyRecord, trial: TrialRecord) -> str:
    concluded = conclusion(store, study.id)
    lines = [f"trial {trial.number} of {trial.agent}, seed {trial.seed}, of study {study.name}: {trial.state}"]
    if trial.reason:
        lines.append(trial.reason)
    if concluded is not None and concluded.trial_id == trial.id:
        lines.append(f"the winner, reported {concluded.concluded:%Y-%m-%d %H:%M} UTC")
        lines += [f"  {r.text}: {shown(r.value)}, {r.sense} {shown(r.bound)}" for r in concluded.rules]
    took = f", took {duration(trial.wall_s)}" if trial.wall_s is not None else ""
    attempts = f", {trial.attempts} attempts" if trial.attempts > 1 else ""
    lines.append(f"started {trial.started:%Y-%m-%d %H:%M:%S} UTC{took}{attempts}")
    if trial.repeat_of is not None:
        first = store.trial(trial.repeat_of)
        lines.append(f"not evaluated itself: trial {first.agent}/{first.seed}/{first.number} chose the same")
    return "\n".join(lines)


def _measured(trial: TrialRecord, width: int | None) -> str:
    """A row a metric, a column a phase."""
    last: dict[tuple[str, Phase], Measurement] = {}
    for m in sorted(trial.measurements, key=lambda m: m.step):
        last[m.metric, m.phase] = m
    phases = [phase for phase in Phase if phase is not Phase.SENSITIVITY and any(where == phase for _, where in last)]
    if not phases:
        return ""
    lines = [["", *phases]]
    for metric in dict.fromkeys(metric for metric, _ in last):
        lines.append([metric, *(_cell(last.get((metric, phase))) for phase in phases)])
    return fitted(lines, width)


def _cell(m: Measurement | None) -> str:
    if m is None:
        return ""
    if m.n == 1 and m.spread is None:
        return shown(m.value)
    return with_error(m.value, m.spread, percent=is_rate(m.metric, m))


def _choices(study: StudyRecord, trial: TrialRecord, width: int | None) -> str:
    knobs = {knob["name"]: Knob.from_record(knob) for knob in study.config.get("knobs", ())}
    if not knobs:
        return fitted([["knob", "level"], *([name, str(level)] for name, level in trial.point.items())], width)
    lines = [["knob", "level", "of", "keep", "unit"]]
    for name, knob in knobs.items():
        if name in trial.point:
            level = trial.point[name]
            said = knob.shown(level) if level in knob.levels else str(level)
            lines.append([name, said, knob.shown(knob.original), f"{knob.keep(level):.0%}", knob.unit])
    return fitted(lines, width)
