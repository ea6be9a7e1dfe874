"""A trial of ours in Optuna's terms: its choice as parameters, its numbers as attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from math import gcd
from typing import TYPE_CHECKING, Any

from automl.store.records import TrialRecord
from search_spaces import Knob

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import IntDistribution


def frozen_trial(
    trial: TrialRecord,
    knobs: Sequence[Knob],
    state: optuna.trial.TrialState,
    value: float | Sequence[float] | None,
    attributes: Mapping[str, Any],
    constraints: Mapping[str, float],
    steps: Mapping[int, float] | None = None,
) -> optuna.trial.FrozenTrial:
    """A finished trial as Optuna has it. `constraints`: by how much each limit is exceeded, at most 0 is feasible.

    `value`: of each objective, where there are several. `attributes` stand before those by which a trial is found in
    our tables.
    """
    from optuna.trial import create_trial

    place = {"agent": trial.agent, "seed": trial.seed, "number": trial.number, "trial_id": trial.id}
    frozen = create_trial(
        state=state,
        values=[value] if isinstance(value, float) else value,
        params={knob.name: trial.point[knob.name] for knob in knobs},
        distributions={knob.name: _levels(knob) for knob in knobs},
        user_attrs={**attributes, **place, "state": trial.state.value},
        intermediate_values=dict(steps or {}),
        constraints=dict(constraints),
        # Optuna Dashboard reads only this older form of the same.
        system_attrs={"constraints": list(constraints.values())} if constraints else {},
    )
    assert trial.finished is not None
    frozen.datetime_start = _local(trial.started)
    frozen.datetime_complete = _local(trial.finished)
    return frozen


def _levels(knob: Knob) -> IntDistribution:
    from optuna.distributions import IntDistribution

    step = gcd(*(level - knob.levels[0] for level in knob.levels)) or 1
    return IntDistribution(knob.levels[0], knob.levels[-1], step=step)


def _local(moment: datetime) -> datetime:
    """Naive local time, as Optuna has it."""
    return moment.astimezone().replace(tzinfo=None)
