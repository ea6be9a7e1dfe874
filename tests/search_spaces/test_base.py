"""Knobs, Points, and what spaces of costed knobs share, on a space small enough to know by heart."""

import numpy as np
import pytest

from automl.testing.toy_space import ToySpace
from search_spaces import ChannelsStep, Knob, Plan, Point
from tests.kits.spaces import SpaceConformance


class TestToySpace(SpaceConformance):
    @pytest.fixture
    def space(self):
        return ToySpace(min_keep=0.1)


class TestCoarseToySpace(SpaceConformance):
    """Levels so coarse that a budget is rarely met to the last unit."""

    @pytest.fixture
    def space(self):
        return ToySpace(min_keep=0.25, step=8)


def test_a_knob_has_ascending_levels():
    with pytest.raises(ValueError, match="ascending"):
        Knob("conv", (4, 2))
    with pytest.raises(ValueError, match="ascending"):
        Knob("conv", ())


def test_the_nearest_level_of_two_as_near_is_the_larger():
    knob = Knob("conv", (2, 4, 8))
    assert [knob.nearest(keep) for keep in (0.0, 0.375, 0.38, 0.75, 1.0)] == [2, 4, 4, 8, 8]
    assert knob.keep(2) == 0.25


def test_points_are_equal_whatever_their_order():
    a, b = Point({"x": 1, "y": 2}), Point({"y": 2, "x": 1})
    assert a == b and hash(a) == hash(b) and a.key == b.key
    assert Point.from_json(a.to_json()) == a
    assert a != Point({"x": 2, "y": 1})
    assert a.key != Point({"x": 2, "y": 1}).key


def test_plans_are_plain_json():
    plan = Plan((ChannelsStep({"b": (1, 2), "a": (0,)}),))
    assert plan.to_json() == '[{"kept":{"a":[0],"b":[1,2]},"operator":"channels"}]'
    assert Plan.from_json(plan.to_json()) == plan


def test_several_limits_hold_together():
    space = ToySpace()
    full = {metric: space.cost_of_levels(space.highest, metric) for metric in space.metrics}
    limits = {"macs": 0.5 * full["macs"], "params": 0.3 * full["params"]}
    rng = np.random.default_rng(0)
    for _ in range(50):
        point = space.project(rng.uniform(0.1, 1, len(space.knobs)), limits)
        assert all(space.cost(point, metric) <= limit for metric, limit in limits.items())
        used = max(space.cost(point, metric) / limit for metric, limit in limits.items())
        assert used > 0.98
