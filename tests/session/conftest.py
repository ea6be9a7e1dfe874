"""A toy problem and a database for every test."""

import pytest

from automl.store import open_store
from automl.testing.toy_space import toy_problem
from tests.kits.runners import new_study


@pytest.fixture
def problem():
    return toy_problem()


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path / "study.db") as store:
        yield store


@pytest.fixture
def study(store, problem):
    return new_study(store, problem)
