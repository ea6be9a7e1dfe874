"""Which trial was reported is on record, with the rules that it keeps; what was reported before stays."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from automl.store import (
    Rule,
    StoreError,
    StudyBusyError,
    conclude_study,
    conclusion,
    copy_search,
    open_store,
    remove_study,
)
from automl.store.schema import metadata
from automl.types import Phase
from tests.kits.stores import CONFIG, add_trial, new_study, point

RULES = (
    Rule("macs <= 50%", "macs", Phase.FINAL, "at most", 1000.0, 0.1 + 0.2),
    Rule("accuracy drop <= 1%", "accuracy", Phase.FINAL, "at least", 0.9, 0.91),
)


@pytest.fixture
def store(any_url):
    with open_store(any_url) as store:
        yield store


@pytest.fixture
def trials(store):
    study = new_study(store)
    return [add_trial(store, study, number=number, at=point(conv1=number + 1)) for number in range(3)]


def rows(store, table: str) -> int:
    count = sa.select(sa.func.count()).select_from(metadata.tables[table])
    return store.database.reading(lambda connection: connection.scalar(count))


def test_a_conclusion_comes_back_as_it_went_in(store, trials):
    study = store.study("digits")
    assert conclusion(store, study.id) is None
    made = conclude_study(store, trials[1].id, RULES, ["the clock is unsteady", "größe 🗜"])
    assert made == conclusion(store, study.id)
    assert (made.study_id, made.trial_id, made.rules) == (study.id, trials[1].id, RULES)
    assert made.notes == ("the clock is unsteady", "größe 🗜")


def test_the_same_is_concluded_once_and_another_beside_it(store, trials):
    first = conclude_study(store, trials[0].id, RULES, ["a note"])
    assert conclude_study(store, trials[0].id, RULES) == first
    second = conclude_study(store, trials[2].id, RULES[:1])
    assert second.trial_id == trials[2].id and second.rules == RULES[:1] and second.notes == ()
    assert conclusion(store, first.study_id) == second
    assert (rows(store, "conclusion"), rows(store, "rule")) == (2, 3)


def test_only_who_drives_a_study_concludes_it(store, trials, any_url):
    with open_store(any_url) as other, other.drive(trials[0].study_id):
        with pytest.raises(StudyBusyError):
            conclude_study(store, trials[0].id, RULES)
        conclude_study(other, trials[0].id, RULES)
    with pytest.raises(StoreError, match="no trial with id 999"):
        conclude_study(store, 999, ())


def test_a_copy_of_a_search_has_concluded_nothing_and_a_removed_study_leaves_nothing(store, trials):
    conclude_study(store, trials[0].id, RULES)
    copy_search(store, "digits", "again", CONFIG)
    assert conclusion(store, store.study("again").id) is None
    remove_study(store, "digits")
    assert (rows(store, "conclusion"), rows(store, "rule")) == (0, 0)
