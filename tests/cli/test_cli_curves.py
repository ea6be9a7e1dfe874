"""What a search did, drawn: the numbers behind the picture, and the command."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace

import numpy as np
import pytest

from agents import Goal, TrialState
from automl.errors import StudyError
from automl.report.curves import Search, best_so_far, draw_curves, over_seeds, picture
from automl.store import open_store
from automl.testing.toy_space import toy_problem
from automl.types import Measurement, Outcome
from tests.cli.conftest import TRIALS
from tests.cli.conftest import automl as command
from tests.kits.runners import new_study

ACCURACY = Goal("accuracy", "maximize")
LOSS = Goal("loss", "minimize")


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path / "study.db") as store:
        yield store


@pytest.fixture
def problem():
    return toy_problem()


def add(store, study, point, outcome, *, agent="amc", seed=0, number=0):
    record = store.open_trial(study.id, agent, seed, number, point)
    return store.close_trial(record.id, outcome)


def done(value: float, metric: str = "accuracy") -> Outcome:
    return Outcome.done([Measurement(metric, value)])


@pytest.fixture
def trials(store, problem):
    """Done 0.2, failed, infeasible 0.9, done 0.5, done 0.3."""
    study = new_study(store, problem)
    outcomes = [
        Outcome.failed("x"),
        done(0.2),
        Outcome.infeasible("too big", [Measurement("accuracy", 0.9)]),
        done(0.5),
        done(0.3),
    ]
    return [add(store, study, problem.needed, outcome, number=n) for n, outcome in enumerate(outcomes)]


def test_only_what_is_done_can_be_best(trials):
    np.testing.assert_array_equal(best_so_far(trials, ACCURACY), [np.nan, 0.2, 0.2, 0.5, 0.5])


def test_the_best_of_what_is_minimised_is_the_lowest(store, problem):
    study = new_study(store, problem)
    lane = [add(store, study, problem.needed, done(v, "loss"), number=n) for n, v in enumerate((2.0, 1.0, 3.0))]
    np.testing.assert_array_equal(best_so_far(lane, LOSS), [2.0, 1.0, 1.0])


def test_mean_and_band_are_over_the_seeds_that_have_got_that_far():
    curves = [np.array([np.nan, 0.4, 0.6]), np.array([0.2, 0.2])]
    np.testing.assert_allclose(over_seeds(curves), [[0.2, 0.3, 0.6], [0.2, 0.2, 0.6], [0.2, 0.4, 0.6]])


def test_the_seed_shown_is_the_one_that_found_the_best(store, problem):
    study = new_study(store, problem)
    for seed, outcome in enumerate((done(0.5), Outcome.failed("x"), done(0.7), done(0.7))):
        add(store, study, problem.needed, outcome, seed=seed)
    add(store, study, problem.needed, done(0.95), agent="base")
    search = Search.read(store, study)
    assert (search.agent, search.shown, search.original, search.trials) == ("amc", 2, 0.95, 1)


def test_it_shows_keep_fractions_in_the_order_of_the_trials_and_every_agent(searched):
    with open_store(searched[0], create=False) as store:
        search = Search.read(store, store.study("amc-digits"))
    assert set(search.lanes) == {"uniform", "random", "amc"} and search.agent == "amc"
    figure = picture(search)
    (image,) = [image for axes in figure.axes for image in axes.images if axes.get_xlabel() == "trials finished"]
    trials = search.lanes["amc"][0]
    sizes = {knob.name: knob.levels[-1] for knob in search.knobs}
    assert image.get_array().shape == (len(sizes), TRIALS)
    for column, trial in zip(image.get_array().T, trials, strict=True):
        np.testing.assert_allclose(column, [trial.point[name] / size for name, size in sizes.items()])
    legends = [axes.get_legend() for axes in figure.axes if axes.get_legend() is not None]
    named = {text.get_text().split()[-1] for text in legends[0].get_texts()}
    assert named == {"original", "uniform", "random", "amc", "finished"}


def test_where_networks_are_made_nothing_is_kept_of_an_original_and_choices_say_so(store, problem):
    record = new_study(store, problem)
    add(store, record, problem.needed, done(0.7), agent="base")
    add(store, record, problem.needed, done(0.5))
    (knob, *others) = (dict(knob) for knob in record.config["knobs"])
    knobs = [knob | {"kind": "choice", "labels": [f"kind {level}" for level in knob["levels"]]}, *others]
    search = Search.read(store, replace(record, config={**record.config, "knobs": knobs, "space": {"cells": {}}}))
    axes = picture(search).axes
    texts = [text.get_text() for one in axes for text in (*one.texts, *one.get_yticklabels())]
    assert f"{knob['name']} (choice of {len(knob['levels'])})" in texts
    assert any("part of the most that there may be" in text for text in texts)
    legend = next(one.get_legend() for one in axes if one.get_legend() is not None)
    assert "0.7000  the reference" in [text.get_text() for text in legend.get_texts()]


def test_what_an_agent_told_has_a_panel_each(store, problem):
    study = new_study(store, problem)
    record = add(store, study, problem.needed, done(0.5))
    search = Search.read(store, study)
    before = len(picture(search).axes)
    store.add_diagnostics(record.id, {"noise": 0.5, "critic_loss": 0.1})
    after = picture(Search.read(store, study))
    assert len(after.axes) == before + 4, "a panel and its legend for each"
    assert any("critic loss of amc" in text.get_text() for axes in after.axes for text in axes.texts)


@pytest.mark.parametrize("outcome", [Outcome.failed("x"), done(0.5)])
def test_a_study_of_one_trial_is_drawn_whatever_came_of_it(store, problem, outcome, tmp_path):
    study = new_study(store, problem)
    add(store, study, problem.needed, outcome)
    assert draw_curves(store, study).read_bytes().startswith(b"\x89PNG")


def test_running_trials_are_left_out_and_nothing_finished_is_one_clear_error(store, problem):
    study = new_study(store, problem)
    record = store.open_trial(study.id, "amc", 0, 0, problem.needed)
    assert record.state is TrialState.RUNNING
    with pytest.raises(StudyError, match="has no finished trial yet"):
        draw_curves(store, study)


def test_the_command_writes_the_picture_and_puts_it_on_record_once(searched, tmp_path):
    database, out = shutil.copy(searched[0], tmp_path / "copy.db"), tmp_path / "mine.png"
    for _ in range(2):
        ran = command("curves", "amc-digits", "--storage", database, "--out", out)
        assert ran.code == 0 and str(out) in ran.out
    with open_store(database, create=False) as store:
        mine = [a for a in store.artifacts(store.study("amc-digits").id) if a.path == str(out)]
    assert [a.sha256 for a in mine] == [hashlib.sha256(out.read_bytes()).hexdigest()]


def test_what_cannot_be_drawn_or_written_is_explained(searched, tmp_path):
    ran = command("curves", "amc-digit", "--storage", searched[0])
    assert ran.code == 1 and "amc-digits" in ran.err
    ran = command("curves", "amc-digits", "--storage", searched[0], "--out", tmp_path / "none" / "x.png")
    assert ran.code == 1 and "cannot write the picture" in ran.err
    ran = command("curves", "amc-digits", "--storage", searched[0], "--out", tmp_path / "x.docx")
    assert ran.code == 1 and "Name it .png" in ran.err


def test_a_search_reads_in_the_order_in_which_trials_finished(store, problem):
    study = new_study(store, problem)
    opened = [store.open_trial(study.id, "amc", 0, n, problem.needed) for n in range(2)]
    for record, value in zip(reversed(opened), (0.3, 0.6), strict=True):
        store.close_trial(record.id, done(value))
    search = Search.read(store, study)
    assert [trial.number for trial in search.lanes["amc"][0]] == [1, 0]
    assert replace(search, original=None).original is None
