"""A study of two objectives for each cost that is limited, so that Optuna's own picture of a front shows what it costs.

A trial is in it as the search saw it, and once more as it was finished. Trials are only ever added, since who looks at
the study has its address.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from agents import TrialState
from automl.report.html import words
from automl.report.html.as_recorded import AsRecorded
from automl.report.html.fronts import non_dominated
from automl.store import TrialRecord, frozen_trial
from automl.study.selection import final
from automl.types import Phase

if TYPE_CHECKING:
    import optuna

PLOTTED = 100
"""About how many trials are shown beside those on the front: Optuna takes tens of milliseconds to add one."""

Shown = tuple[TrialRecord, Phase]
"""A trial, as it was searched or as it was finished."""


def front_name(study: AsRecorded, cost: str) -> str:
    """What Optuna calls the study; no study of ours has a colon in its name."""
    return f"{study.study.name}: {study.goal.metric} and {words.cost_in_words(cost)}"


def front_costs(study: AsRecorded) -> list[str]:
    """The costs that have a study: those that are limited, or multiply-accumulates."""
    costs = list(study.limits) or ["macs"]
    return [cost for cost in costs if any(cost in t.values and study.goal.metric in t.values for t in study.trials)]


def add_missing(study: AsRecorded, cost: str, storage: optuna.storages.RDBStorage) -> optuna.Study:
    """Optuna's study of what `cost` buys, with the trials that were not in it yet."""
    import optuna

    goal = study.goal
    front = optuna.create_study(
        study_name=front_name(study, cost),
        storage=storage,
        directions=[goal.direction, "minimize"],
        load_if_exists=True,
    )
    if not front.metric_names:
        unit = words.unit_of(cost)
        front.set_metric_names([goal.metric, words.axis_title(words.cost_in_words(cost), unit)])
    there = {(t.user_attrs.get("trial_id"), t.user_attrs.get("phase")) for t in front.get_trials(deepcopy=False)}
    missing = [shown for shown in _shown(study, cost) if (shown[0].id, str(shown[1])) not in there]
    front.add_trials([_frozen(study, trial, phase, cost) for trial, phase in missing])
    return front


def _shown(study: AsRecorded, cost: str) -> Iterator[Shown]:
    """Some of the trials, those on the front, and what was finished once the study has its winner.

    Not the original: its cost is so far off that all else would be one spot.
    """
    goal = study.goal
    known = [t for t in study.trials if t.finished and {cost, goal.metric} <= t.values.keys()]
    done = [t for t in known if t.state is TrialState.DONE]
    best = {t.id for t in non_dominated(done, lambda t: (t.values[cost], -goal.utility(t.values[goal.metric])))}
    planned = study.config.get("trials")
    stride = -(-max(len(known), len(study.lanes) * planned if isinstance(planned, int) else 0) // PLOTTED)
    for trial in known:
        if trial.id in best or trial.number % stride == 0:
            yield trial, Phase.SEARCH
    if study.concluded is not None:
        yield from ((t, Phase.FINAL) for t in done if goal.metric in t.values_of(Phase.FINAL))


def _frozen(study: AsRecorded, trial: TrialRecord, phase: Phase, cost: str) -> optuna.trial.FrozenTrial:
    from optuna.trial import TrialState as OptunaState

    metrics = (study.goal.metric, cost)
    values = [trial.values[m] if phase == Phase.SEARCH else final(trial, m) for m in metrics]
    attributes: dict[str, Any] = {"phase": str(phase), **({"reason": trial.reason} if trial.reason else {})}
    if phase == Phase.FINAL:
        attributes["reported"] = study.winner is trial
    over = {metric: trial.values.get(metric, limit) - limit for metric, limit in study.limits.items()}
    if trial.state is TrialState.INFEASIBLE and all(excess <= 0 for excess in over.values()):
        over["infeasible"] = 1.0
    if trial.state is TrialState.STOPPED:
        return frozen_trial(trial, study.knobs, OptunaState.PRUNED, None, attributes, over)
    return frozen_trial(trial, study.knobs, OptunaState.COMPLETE, values, attributes, over)
