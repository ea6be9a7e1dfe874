"""A table of every Point of a small toy space within 60 % of its MACs."""

from __future__ import annotations

import pytest

from agents import Goal
from automl.benchmark import Coverage, Table
from automl.benchmark.grid import choices
from automl.testing.toy_space import ToyAccuracy, ToySpace

GOAL = Goal("accuracy", "maximize")


@pytest.fixture(scope="session")
def problem() -> ToyAccuracy:
    """Five knobs of four levels."""
    space = ToySpace(widths=(16, 16, 16, 16, 16), strides=(1, 1, 2, 1, 2), image=8, min_keep=0.25, step=4)
    return ToyAccuracy(space, needed=(1, 0.5, 1, 0.5, 0.75), weights=(3, 1, 4, 1, 2))


@pytest.fixture(scope="session")
def within(problem) -> dict[str, float]:
    space = problem.space
    return {"macs": 0.6 * space.cost_of_levels(space.highest, "macs")}


@pytest.fixture(scope="session")
def table(problem, within) -> Table:
    points = [problem.space.point(levels) for levels in choices(problem.space, within)]
    values = {point: {"accuracy": problem(point), "loss": 1 - problem(point)} for point in points}
    sensitivity = {knob.name: 1.0 - problem.space.encode(problem.needed)[:1] for knob in problem.space.knobs}
    return Table.make(
        problem.space, values, GOAL, Coverage(within), sensitivity=sensitivity, provenance={"network": "toy"}
    )
