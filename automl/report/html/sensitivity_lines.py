"""Error curves that agents start from: what each choice alone was estimated to cost in quality, before any trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from automl.report.html.as_recorded import AsRecorded
from automl.types import Phase
from search_spaces import Knob

NAMED = 5
"""How many of the most sensitive choices have a colour and a name."""


@dataclass(frozen=True)
class Line:
    """One knob's curve."""

    name: str
    rank: int
    """0 for the most sensitive."""
    points: Sequence[tuple[float, float]]
    """Fraction kept -> error, as a part of the largest of all curves: units differ between operators and agents."""


def sensitivity_lines(study: AsRecorded) -> list[Line]:
    """The recorded curves, the most sensitive first; by the error at half of what a knob can lose."""
    if study.base is None:
        return []
    errors: dict[str, dict[int, float]] = {}
    for m in study.base.measurements:
        if m.phase == Phase.SENSITIVITY:
            errors.setdefault(m.metric, {})[m.step] = m.value
    curves = {knob.name: _points(knob, errors[knob.name]) for knob in study.knobs if knob.name in errors}
    order = sorted(curves, key=lambda name: -_midway(curves[name]))
    most = max((error for curve in curves.values() for _, error in curve), default=0.0) or 1.0
    return [Line(name, rank, [(x, error / most) for x, error in curves[name]]) for rank, name in enumerate(order)]


def _points(knob: Knob, errors: dict[int, float]) -> list[tuple[float, float]]:
    return sorted((knob.keep(level), max(0.0, errors[level])) for level in knob.levels if level in errors)


def _midway(points: Sequence[tuple[float, float]]) -> float:
    return points[len(points) // 2][1] if points else 0.0
