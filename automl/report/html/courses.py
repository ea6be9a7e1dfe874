"""How far each agent had come after how much time: the best of its done trials so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agents import TrialState
from automl.report.html import words
from automl.report.html.as_recorded import AsRecorded

SPANS = ((3 * 3600.0, 3600.0, "h"), (300.0, 60.0, "min"), (0.0, 1.0, "s"))
"""From how many seconds on an axis is in which unit."""
SETTLED = 0.05
"""The part of the time in which best values may lie below the axis: the first are far off."""


@dataclass(frozen=True)
class Step:
    """A best value that was reached."""

    x: float
    """Time that workers had spent on the lane's trials, in the unit of the axis."""
    y: float
    told: str


@dataclass(frozen=True)
class Course:
    """The best so far of one agent and seed."""

    agent: str
    seed: int
    steps: Sequence[Step]
    """Where it rose, and where it ended."""


@dataclass(frozen=True)
class Courses:
    """Those of all agents and seeds, and the unit of time."""

    unit: str
    courses: Sequence[Course]
    lowest: float
    """The worst value that the axis has room for."""


def courses(study: AsRecorded) -> Courses | None:
    """The courses of a study; None before a trial is done."""
    longest = max((sum(t.wall_s or 0.0 for t in lane) for lane in study.lanes.values()), default=0.0)
    _, seconds, unit = next(span for span in SPANS if longest >= span[0])
    found = [_course(study, lane, seconds, unit) for lane in study.lanes]
    drawn = [course for course in found if course.steps]
    if not drawn:
        return None
    return Courses(unit, drawn, _lowest(study, drawn, longest / seconds))


def _course(study: AsRecorded, lane: tuple[str, int], seconds: float, unit: str) -> Course:
    goal, best, spent, n = study.goal, float("-inf"), 0.0, 0
    steps: list[Step] = []
    told = sorted((t for t in study.lanes[lane] if t.finish_order is not None), key=lambda t: t.finish_order or 0)
    for n, trial in enumerate(told, start=1):
        spent += trial.wall_s or 0.0
        value = trial.values.get(goal.metric)
        if trial.state is TrialState.DONE and value is not None and goal.utility(value) > best:
            best = goal.utility(value)
            steps.append(_step(study, lane, spent / seconds, value, n, unit))
    if steps:
        steps.append(_step(study, lane, spent / seconds, steps[-1].y, n, unit))
    return Course(*lane, steps)


def _step(study: AsRecorded, lane: tuple[str, int], x: float, value: float, n: int, unit: str) -> Step:
    metric = study.goal.metric
    shown = words.quality(value, metric in study.rates)
    return Step(x, value, f"{lane[0]}, seed {lane[1]}: best {metric} {shown} after {n:,} trials, {x:.3g} {unit}")


def _lowest(study: AsRecorded, drawn: Sequence[Course], longest: float) -> float:
    """The worst of what the courses had reached after `SETTLED` of the time."""
    sign = study.goal.utility(1.0)
    reached = [
        max(sign * step.y for i, step in enumerate(course.steps) if not i or step.x <= SETTLED * longest)
        for course in drawn
    ]
    return sign * min(reached)
