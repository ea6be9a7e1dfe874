"""What quality costs: trials by a cost and what was sought, and which of them no other beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agents import TrialState
from automl.report.html import words
from automl.report.html.as_recorded import AsRecorded
from automl.store import TrialRecord
from automl.study.selection import final
from automl.types import Phase

DRAWN = 600
"""The most trials behind the front that are drawn: more would hide each other."""
WORST = 0.1
"""The part of them, the worst, that may lie off the axis: the first guesses of a search are far off."""


@dataclass(frozen=True)
class Dot:
    """A trial in the plane of a cost and what was sought."""

    x: float
    y: float
    agent: str
    told: str
    """What a reader sees who points at it."""
    kind: str
    """front, behind, faint (not done: stopped, or over the budget) or finished."""


@dataclass(frozen=True)
class Front:
    """The trials of a study by one cost."""

    cost: str
    limit: float | None
    original: tuple[float, float] | None
    dots: Sequence[Dot]
    winner: Dot | None
    caption: str


def fronts(study: AsRecorded) -> list[Front]:
    """A front for each cost that the budget limits, or for multiply-accumulates where it limits none."""
    costs = list(study.limits) or ["macs"]
    made = (_front(study, cost) for cost in costs)
    return [front for front in made if front is not None]


def _front(study: AsRecorded, cost: str) -> Front | None:
    goal = study.goal
    known = [t for t in study.trials if cost in t.values and goal.metric in t.values]
    done = [t for t in known if t.state is TrialState.DONE]
    if not done:
        return None
    best = {t.id for t in non_dominated(done, lambda t: (t.values[cost], -goal.utility(t.values[goal.metric])))}
    behind = [t for t in known if t.id not in best]
    near = _near(study, behind)
    shown = _thinned(near)
    dots = [_dot(study, t, cost, Phase.SEARCH, "behind" if t.state is TrialState.DONE else "faint") for t in shown]
    dots += [_dot(study, t, cost, Phase.SEARCH, "front") for t in done if t.id in best]
    finished = [t for t in known if goal.metric in t.values_of(Phase.FINAL) and t is not study.winner]
    dots += [_dot(study, t, cost, Phase.FINAL, "finished") for t in finished]
    base, winner = study.base, study.winner
    return Front(
        cost,
        study.limits.get(cost),
        (final(base, cost), final(base, goal.metric)) if base is not None and cost in base.values else None,
        dots,
        _dot(study, winner, cost, Phase.FINAL, "winner") if winner is not None and cost in winner.values else None,
        _caption(len(near), len(shown), len(behind) - len(near)),
    )


def non_dominated(trials: Sequence[TrialRecord], costs: object) -> list[TrialRecord]:
    """Those that no other is as good as in both of `costs(trial)`, two numbers that are to be small, and better in one.

    Of equal ones the first.
    """
    assert callable(costs)
    found: list[TrialRecord] = []
    least = float("inf")
    for trial in sorted(trials, key=costs):
        second = costs(trial)[1]
        if second < least:
            found.append(trial)
            least = second
    return found


def _thinned(trials: Sequence[TrialRecord]) -> Sequence[TrialRecord]:
    """At most `DRAWN` of them, evenly over their order."""
    if len(trials) <= DRAWN:
        return trials
    return [trials[i * len(trials) // DRAWN] for i in range(DRAWN)]


def _near(study: AsRecorded, trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Those that are not among the `WORST`."""

    def worth(trial: TrialRecord) -> float:
        return study.goal.utility(trial.values[study.goal.metric])

    least = sorted(map(worth, trials))[int(WORST * len(trials)) :][:1]
    return [trial for trial in trials if worth(trial) >= least[0]]


def _dot(study: AsRecorded, trial: TrialRecord, cost: str, phase: Phase, kind: str) -> Dot:
    metric = study.goal.metric
    value = trial.values_of(phase).get(metric, trial.values[metric])
    spent = trial.values_of(phase).get(cost, trial.values[cost])
    how = "as searched" if phase == Phase.SEARCH else "finished"
    state = "" if trial.state is TrialState.DONE else f" ({trial.state.value})"
    told = (
        f"{trial.agent}, seed {trial.seed}, trial {trial.number}{state}: {metric} "
        f"{words.quality(value, metric in study.rates)} {how}, {words.cost_name(cost)} {words.cost(cost, spent)}"
    )
    return Dot(spent, value, trial.agent, told, kind)


def _caption(near: int, drawn: int, off: int) -> str:
    text = (
        "Each dot is a trial as the search saw it, a faint one stopped early or over the budget; the line joins those "
        "that no other beats in both."
    )
    if drawn < near:
        text += f" Of {near:,} behind it {drawn:,} are drawn."
    if off:
        text += f" {off:,} of the worst lie below the picture." if off > 1 else " The worst one lies below the picture."
    return text
