"""A table answers as the space and the evaluation it was made from, also after its file."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from agents import Goal, TrialState
from automl.benchmark import Coverage, Table, TableSpace
from automl.benchmark.grid import choices
from automl.errors import TableError
from automl.testing.toy_space import ToySpace
from automl.zoo import load_model
from search_spaces import InfeasibleBudgetError, Plan, SpaceError, channel_space
from tests.benchmark.conftest import GOAL


def all_points(space):
    return [space.point(levels) for levels in product(*(knob.levels for knob in space.knobs))]


def test_it_answers_every_point_within_with_its_values_and_exact_costs(table, problem, within):
    for point in all_points(problem.space):
        outcome = table.evaluate(point)
        costs = {metric: problem.space.cost(point, metric) for metric in ("macs", "params")}
        if costs["macs"] > within["macs"]:
            assert (
                outcome.state is TrialState.FAILED and "not in the table, which has Points of macs <=" in outcome.reason
            )
        else:
            assert outcome.state is TrialState.DONE
            worth = {"accuracy": np.float32(problem(point)), "loss": np.float32(1 - problem(point))}
            assert outcome.values == {**worth, **costs}


def test_its_space_has_the_walls_and_features_of_the_original(table, problem, within):
    space, original = table.space, problem.space
    assert space.knobs == original.knobs and space.metrics == original.metrics
    np.testing.assert_array_equal(space.features(), original.features())
    assert space.feature_names == original.feature_names
    rng = np.random.default_rng(0)
    for _ in range(50):
        wanted = rng.uniform(0.2, 1, len(space.knobs))
        assert space.project(wanted, within) == original.project(wanted, within)
        prefix = [int(rng.choice(knob.levels)) for knob in space.knobs[: rng.integers(len(space.knobs))]]
        assert space.bounds(prefix, within) == original.bounds(prefix, within)


@pytest.mark.parametrize("exclude", [[], ["stem.0"], ["conv1.0"]])
@pytest.mark.parametrize("steps", [None, 4])
def test_costs_of_a_real_network_are_exact_at_every_choice(exclude, steps):
    space = channel_space(load_model("small_cnn", {}, None), (torch.zeros(2, 1, 8, 8),), exclude=exclude, steps=steps)
    rng = np.random.default_rng(1)  # other choices than those the fit is compared on
    levels = np.stack([rng.choice(knob.levels, 300) for knob in space.knobs], axis=1)
    table = TableSpace.of(space, levels[:10], space.metrics)
    assert table.metrics == ("macs", "params", "size_bytes")
    for metric in space.metrics:
        costs = [space.cost_of_levels(row, metric) for row in levels]
        assert table.costs[metric](levels).tolist() == costs
        assert [table.cost_of_levels(row, metric) for row in levels] == costs
    assert table.cost(table.point(space.highest.tolist()), "macs") == space.cost_of_levels(space.highest, "macs")


class Cubic(ToySpace):
    def cost_of_levels(self, levels, metric):
        return float(np.prod(levels[:3])) if metric == "macs" else super().cost_of_levels(levels, metric)


class Fraction(ToySpace):
    def cost_of_levels(self, levels, metric):
        return super().cost_of_levels(levels, metric) / 3


@pytest.mark.parametrize("kind", [Cubic, Fraction])
def test_a_cost_that_is_not_exact_is_refused_and_can_be_left_out(kind):
    space = kind(widths=(8, 8, 8), strides=(1, 1, 1), step=4)
    values = {point: {"accuracy": 0.5} for point in all_points(space)}
    with pytest.raises(TableError, match="expected macs to be a whole number, quadratic in the levels"):
        Table.make(space, values, GOAL, Coverage())
    left = [] if kind is Fraction else ["params"]
    assert Table.make(space, values, GOAL, Coverage(), metrics=left).space.metrics == tuple(left)


def test_a_file_gives_the_same_table_back(table, problem, within, tmp_path):
    table.save(tmp_path / "toy.npz")
    assert (tmp_path / "toy.npz").stat().st_size < 20_000
    again = Table.load(tmp_path / "toy.npz")
    assert len(again) == len(table) and again.rows.dtype == np.uint8
    assert (again.goal, again.coverage, again.limits) == (table.goal, table.coverage, table.limits)
    assert again.provenance == {"network": "toy"}
    assert again.space.knobs == table.space.knobs and again.space.feature_names == table.space.feature_names
    np.testing.assert_array_equal(again.space.features(), table.space.features())
    assert again.sensitivity.keys() == table.sensitivity.keys()
    for name, curve in table.sensitivity.items():
        np.testing.assert_array_equal(again.sensitivity[name], curve)
    for point in all_points(problem.space):
        assert again.evaluate(point) == table.evaluate(point)
    again.save(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "toy.npz").read_bytes()


def test_the_order_in_which_points_were_evaluated_does_not_show(problem, within, tmp_path):
    points = [problem.space.point(levels) for levels in choices(problem.space, within)]
    for name, order in (("a", points), ("b", points[::-1])):
        values = {point: {"accuracy": problem(point)} for point in order}
        Table.make(problem.space, values, GOAL, Coverage(within)).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_tighter_limits_make_points_infeasible_and_wider_ones_are_refused(table, problem, within):
    tighter = table.limited({"macs": 0.5 * within["macs"]})
    states = {tighter.evaluate(point).state for point in all_points(problem.space)}
    assert states == {TrialState.DONE, TrialState.INFEASIBLE, TrialState.FAILED}
    inside = [p for p in all_points(problem.space) if problem.space.cost(p, "macs") <= 0.5 * within["macs"]]
    assert tighter.optimum == np.float32(max(map(problem, inside))) < table.optimum
    for limits in ({"macs": 1.01 * within["macs"]}, {"params": 100}, {}):
        with pytest.raises(TableError, match="set a limit on macs within that"):
            table.limited(limits)
    with pytest.raises(InfeasibleBudgetError):
        table.limited({"macs": 1})


def test_the_optimum_follows_the_goal(table, problem, within):
    inside = [p for p in all_points(problem.space) if problem.space.cost(p, "macs") <= within["macs"]]
    assert table.optimum == np.float32(max(map(problem, inside)))
    assert table.aiming(Goal("loss", "minimize")).optimum == np.float32(1 - max(map(problem, inside)))
    with pytest.raises(TableError, match="no 'divergence'"):
        table.aiming(Goal("divergence", "minimize"))


def test_a_point_whose_evaluation_failed_is_failed_here_too(problem, within):
    points = [problem.space.point(levels) for levels in choices(problem.space, within)]
    values = {point: {"accuracy": problem(point)} for point in points} | {points[3]: None}
    table = Table.make(problem.space, values, GOAL, Coverage(within))
    assert table.evaluate(points[3]).reason == "its evaluation failed when the table was made"
    assert table.evaluate(points[4]).state is TrialState.DONE
    assert np.isfinite(table.optimum)


def test_a_table_has_no_network(table):
    for refused in (lambda: table.space.plan(table.space.point([16] * 5)), lambda: table.space.build(Plan())):
        with pytest.raises(SpaceError, match="build one with its own space"):
            refused()


@pytest.mark.parametrize("content", [None, b"", b"no archive", b"PK\x03\x04 broken"])
def test_what_is_no_table_is_one_clear_error(tmp_path, content):
    path = tmp_path / "x.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TableError, match="cannot read a table from"):
        Table.load(path)


def test_choices_are_all_those_between_the_costs_and_full_ones_use_the_budget_up(problem, within):
    space = problem.space
    above = {"macs": 0.8 * within["macs"]}
    levels = [tuple(space.levels(point).tolist()) for point in all_points(space)]
    costs = {row: space.cost_of_levels(np.array(row), "macs") for row in levels}
    inside = [row for row in levels if costs[row] <= within["macs"]]
    assert list(choices(space, within)) == inside and 0 < len(inside) < len(levels)
    assert list(choices(space, within, above)) == [row for row in inside if costs[row] >= above["macs"]]
    assert list(choices(space, {})) == levels
    full = set(choices(space, within, full=True))
    rng = np.random.default_rng(0)
    for _ in range(100):
        point = space.project(rng.uniform(0.1, 1, len(space.knobs)), within)
        assert tuple(space.levels(point).tolist()) in full
    for row in full:
        raised = [np.array(row) + 4 * np.eye(5, dtype=int)[t] for t in range(5) if row[t] < 16]
        assert all(space.cost_of_levels(r, "macs") > within["macs"] for r in raised)
    assert full < set(inside)
