"""The record as others read it: `sqlite3`, `psql`, pandas, and Optuna's own pictures."""

from __future__ import annotations

import sqlite3

import matplotlib.pyplot as plt
import optuna
import pandas as pd
import pytest
import sqlalchemy as sa
from optuna import visualization as by_plotly
from optuna.visualization import matplotlib as by_matplotlib

from automl.store import OptunaProjection, conclude_study, open_store
from automl.store.optuna_projection import open_optuna_storage
from automl.types import Measurement, Phase
from tests.kits.stores import add_trial, new_study, outcome, point

ACCURACIES = [0.5, 0.8, 0.6, 0.7]
BEST_OF_EACH = (
    "SELECT agent, max(accuracy) AS best, count(*) AS trials FROM trial_summary GROUP BY agent ORDER BY agent"
)
"""A question that every tool is asked."""
PICTURES = {
    "plot_contour": {"params": ["stem", "block.conv1"]},
    "plot_edf": {},
    "plot_optimization_history": {},
    "plot_parallel_coordinate": {},
    "plot_rank": {"params": ["stem", "block.conv1"]},
    "plot_slice": {},
    "plot_timeline": {},
}


@pytest.fixture
def recorded(any_url):
    """A concluded study of one lane, in Optuna's tables too."""
    with open_store(any_url) as store:
        study = new_study(store)
        for number, accuracy in enumerate(ACCURACIES):
            at = point(stem=2 * number + 2, conv1=4 - number)
            trial = add_trial(store, study, "random", 0, number, at, outcome(accuracy))
            if accuracy == max(ACCURACIES):
                store.add_measurements(trial.id, [Measurement("accuracy", accuracy, phase=Phase.FINAL)])
                conclude_study(store, trial.id, ())
        projection = OptunaProjection.of(store, store.study(study.name))
        projection.sync(strict=True)
        projection.close()
        yield store


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning", "ignore:Attempting to set identical")
def test_optuna_draws_the_search(recorded):
    """By plotly and by matplotlib."""
    lane = optuna.load_study(study_name="digits/random/0", storage=open_optuna_storage(recorded.url))
    for picture, arguments in PICTURES.items():
        assert getattr(by_plotly, picture)(lane, **arguments).data, picture
        getattr(by_matplotlib, picture)(lane, **arguments)
        assert any(axes.has_data() for axes in plt.gcf().get_axes()), picture
        plt.close("all")
    history = by_plotly.plot_optimization_history(lane)
    assert list(history.data[0].y) == ACCURACIES


def test_pandas_reads_a_view(recorded):
    with sa.create_engine(recorded.url).connect() as connection:
        table = pd.read_sql(BEST_OF_EACH, connection)
    assert table.to_dict("records") == [{"agent": "random", "best": 0.8, "trials": 4}]


def test_sqlite3_reads_a_view(sqlite_url):
    with open_store(sqlite_url) as store:
        add_trial(store, new_study(store), "random", 0, 0, point(), outcome(0.8))
    with sqlite3.connect(sqlite_url.removeprefix("sqlite:///")) as connection:
        assert connection.execute(BEST_OF_EACH).fetchall() == [("random", 0.8, 1)]
    connection.close()


def test_psql_reads_a_view(postgres, postgres_url):
    with open_store(postgres_url) as store:
        add_trial(store, new_study(store), "random", 0, 0, point(), outcome(0.8))
    schema = postgres_url.rpartition("%3D")[2]
    said = postgres.psql(f"SET search_path TO {schema}; {BEST_OF_EACH};")
    row = next(line for line in said.splitlines() if "random" in line)
    assert [cell.strip() for cell in row.split("|")] == ["random", "0.8", "1"]
