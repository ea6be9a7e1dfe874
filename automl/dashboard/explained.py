"""A study told in Optuna's tables beside its trials: a note, the winner, what its knobs are, its fronts, its files."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from automl.dashboard.front_studies import add_missing, front_costs
from automl.dashboard.markdown_notes import study_note, winner_note
from automl.dashboard.shown_files import ShownFiles
from automl.report.html.answer import question
from automl.report.html.as_recorded import AsRecorded
from automl.store import Store, lane_name, quiet_optuna

if TYPE_CHECKING:
    import optuna

logger = logging.getLogger(__name__)

NOTED = "note_sha256"
"""The attribute that tells a note of ours from one that a user has written since."""


def explain(store: Store, name: str, storage: optuna.storages.RDBStorage, files: ShownFiles | None = None) -> None:
    """Bring what Optuna's tables say of the study `name` up to date, apart from the trials of its lanes.

    `files`: offers the report and the picture, on all but the lanes of baselines.
    `StoreError`, `StudyError`, and whatever Optuna raises.
    """
    with quiet_optuna():
        study = AsRecorded.read(store, name)
        fronts = [add_missing(study, cost, storage) for cost in front_costs(study)]
        finished = _there(name, storage)
        whole = [*([finished] if finished is not None else []), *fronts]
        made = {lane: _there(lane_name(name, *lane), storage) for lane in study.lanes}
        lanes = {lane: found for lane, found in made.items() if found is not None}
        told = [*whole, *lanes.values()]
        places = {one.study_name: one._study_id for one in told}
        note = study_note(study, store.name if not store.database.is_sqlite else store.url, places)
        for one in told:
            _write_note(one, note)
            _set(one, _attributes(study))
        if study.concluded is not None and study.winner is not None:
            _mark(study, lanes)
        for one in [*whole, *(found for (agent, _), found in lanes.items() if agent == study.main_agent)]:
            if files is not None:
                files.offer(name, one)


def _there(called: str, storage: optuna.storages.RDBStorage) -> optuna.Study | None:
    """Optuna's study of this name: of a lane, or of what was finished; None before there is one."""
    import optuna

    try:
        return optuna.load_study(study_name=called, storage=storage)
    except KeyError:
        return None


def _attributes(study: AsRecorded) -> Mapping[str, Any]:
    """What is known of a study by name: its question, its knobs with their units, its winner."""
    attributes: dict[str, Any] = {
        "question": question(study),
        "knobs": {
            knob.name: {"unit": knob.unit, "original": knob.original, "of": knob.size, "levels": len(knob.levels)}
            for knob in study.knobs
        },
    }
    if study.concluded is not None and study.winner is not None:
        winner = study.winner
        attributes["winner"] = f"{winner.agent}/{winner.seed}/{winner.number}"
    return attributes


def _set(told: optuna.Study, attributes: Mapping[str, Any]) -> None:
    there = told.user_attrs
    for key, value in attributes.items():
        if there.get(key) != value:
            told.set_user_attr(key, value)


def _write_note(told: optuna.Study, note: str) -> None:
    """Write the note, unless a user has written another."""
    from optuna_dashboard import get_note, save_note

    there = get_note(told)
    if there == note or (there and _digest(there) != told.user_attrs.get(NOTED)):
        return
    save_note(told, note)
    told.set_user_attr(NOTED, _digest(note))


def _mark(study: AsRecorded, lanes: Mapping[tuple[str, int], optuna.Study]) -> None:
    """A note beside the winner, which Optuna lets nobody change any more otherwise."""
    from optuna.trial import Trial
    from optuna_dashboard import get_note, save_note

    winner = study.winner
    lane = lanes.get((winner.agent, winner.seed)) if winner is not None else None
    if winner is None or lane is None:
        return
    found = [t for t in lane.get_trials(deepcopy=False) if t.user_attrs.get("trial_id") == winner.id]
    for trial in (Trial(lane, t._trial_id) for t in found):
        if not get_note(trial):
            save_note(trial, winner_note(study))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
