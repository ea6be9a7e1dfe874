"""What a study reports, in Optuna's tables: one study of its name that holds the finalists as they were finished.

Optuna changes no trial that is complete, and a finalist is worth something else once it is refitted or trained. So the
lanes keep what the search measured, and the finalists of all lanes stand in a study of their own, made anew whenever
their figures change: there are few. The limits and the guarantee are its constraints, so that its best trial is the one
that was reported; should Optuna's rules make it another, as of two that are equal, the study says so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents import Goal
from automl.store.conclusions import conclusion
from automl.store.lookup import finished_trials
from automl.store.optuna_trials import frozen_trial
from automl.store.records import ConclusionRecord, StudyRecord, TrialRecord
from automl.store.store import Store
from automl.types import BASE, Phase
from search_spaces import Knob

if TYPE_CHECKING:
    import optuna

FIGURES = "figures"
"""The attribute of Optuna's study that tells whether its figures are still those on record."""


@dataclass(frozen=True)
class Finalists:
    """The finished trials of a study that has concluded, the winner first."""

    study: StudyRecord
    goal: Goal
    trials: Sequence[TrialRecord]
    concluded: ConclusionRecord

    @classmethod
    def of(cls, store: Store, study: StudyRecord, goal: Goal) -> Finalists | None:
        """What is on record; None before the study has concluded."""
        concluded = conclusion(store, study.id)
        if concluded is None:
            return None
        finished = finished_trials(store, study.id, goal.metric)
        trials = [trial for trial in finished if trial.agent != BASE]
        if not any(trial.id == concluded.trial_id for trial in trials):
            return None

        def rank(trial: TrialRecord) -> tuple[bool, float]:
            return trial.id != concluded.trial_id, -goal.utility(trial.values_of(Phase.FINAL)[goal.metric])

        return cls(study, goal, sorted(trials, key=rank), concluded)

    @property
    def winner(self) -> TrialRecord:
        """The trial that was reported."""
        return self.trials[0]

    def told(self) -> dict[str, Any]:
        """What Optuna's study says of itself."""
        winner = self.winner
        return {
            "study": self.study.name,
            "holds": "the finalists of all agents and seeds, as they were finished; "
            f"what the search measured is in {self.study.name}/AGENT/SEED",
            "winner": f"{winner.agent}/{winner.seed}/{winner.number}",
            "rules": [f"{rule.text}: {rule.value:g}, {rule.sense} {rule.bound:g}" for rule in self.concluded.rules],
            "notes": list(self.concluded.notes),
            "concluded": self.concluded.concluded.isoformat(),
        }

    def figures(self) -> str:
        """A checksum of all that would be shown."""
        measured = [[t.agent, t.seed, t.number, *_numbers(t).items()] for t in self.trials]
        return hashlib.sha256(json.dumps([self.told(), measured], sort_keys=True).encode()).hexdigest()[:16]

    def frozen(self, trial: TrialRecord, knobs: Sequence[Knob]) -> optuna.trial.FrozenTrial:
        """A finalist in Optuna's terms: worth what it was finished with."""
        from optuna.trial import TrialState as OptunaState

        excess = {rule.text: found for rule in self.concluded.rules if (found := rule.exceeded(trial)) is not None}
        value = trial.values_of(Phase.FINAL)[self.goal.metric]
        attributes = {**_numbers(trial), "reported": trial.id == self.winner.id}
        return frozen_trial(trial, knobs, OptunaState.COMPLETE, value, attributes, excess)


def show_finalists(storage: optuna.storages.RDBStorage, found: Finalists, knobs: Sequence[Knob]) -> bool:
    """Bring Optuna's study of the finalists up to date; whether it had to be made anew."""
    import optuna

    name, figures = found.study.name, found.figures()
    with suppress(KeyError):
        there = optuna.load_study(study_name=name, storage=storage)
        if there.user_attrs.get(FIGURES) == figures and len(there.get_trials(deepcopy=False)) == len(found.trials):
            return False
        optuna.delete_study(study_name=name, storage=storage)
    made = optuna.create_study(study_name=name, storage=storage, direction=found.goal.direction)
    made.set_metric_names([found.goal.metric])
    for trial in found.trials:
        made.add_trial(found.frozen(trial, knobs))
    for key, value in {**found.told(), **_unlike(made, found.winner), FIGURES: figures}.items():
        made.set_user_attr(key, value)
    return True


def _numbers(trial: TrialRecord) -> dict[str, float]:
    return {name: m.value for name, m in trial.labelled().items()}


def _unlike(made: optuna.Study, winner: TrialRecord) -> dict[str, str]:
    """What the study says if Optuna's best trial is another than the one that was reported."""
    try:
        best = made.best_trial
    except ValueError:  # none is feasible
        return {"best_trial": "Optuna counts no trial as feasible: the winner was reported under other rules"}
    if best.user_attrs["trial_id"] == winner.id:
        return {}
    equal = best.value == made.get_trials(deepcopy=False)[0].value
    why = "it is worth as much" if equal else "it has a better value, and was finished after the winner was reported"
    return {"best_trial": f"Optuna's best trial is {best.number} and the winner is 0: {why}"}
