"""Curves of operators whose units differ come out in the one that networks are measured in."""

import numpy as np
import pytest

from automl.fit.one_unit import in_one_unit
from search_spaces import NetworkSpace
from tests.kits import digits


@pytest.fixture(scope="module")
def space():
    problem = digits.problem("resnet8")
    return NetworkSpace(problem.model, problem.example_inputs, {"channels": {"steps": 4}, "rank": {"steps": 4}})


def made(space, operator, scale):
    """Curves that fall to 0 as levels rise, differently for each knob."""
    knobs = [knob for knob in space.knobs if knob.operator == operator]
    return {k.name: scale * (1 + i) * np.arange(len(k.levels))[::-1] ** 2.0 for i, k in enumerate(knobs)}


def measured(space, truths):
    """A divergence that is half the sum of the true curves."""

    def divergence(point):
        levels = space.levels(point).tolist()
        chosen = zip(space.knobs, levels, strict=True)
        return sum(float(truths[k.name][k.levels.index(v)]) for k, v in chosen if k.name in truths) / 2

    return divergence


@pytest.mark.parametrize(("channels", "rank"), [(30.0, 2.0), (50_000.0, 2_000.0), (1e-5, 1e-4)])
def test_each_operators_curves_are_scaled_to_what_networks_lose(space, channels, rank):
    """However far they are from it: a network that is sure of its training images has a Fisher information near 0."""
    curves = [made(space, "channels", 1.0), made(space, "rank", 1.0)]
    truths = made(space, "channels", channels) | made(space, "rank", rank)
    found = in_one_unit(space, curves, measured(space, truths))
    assert found.keys() == truths.keys()
    for name, curve in found.items():
        np.testing.assert_allclose(curve, truths[name])


@pytest.mark.parametrize("nothing", [0.0, float("nan"), float("inf")])
def test_what_cannot_be_measured_leaves_curves_as_they_are(space, nothing):
    curves = [made(space, "channels", 1.0), made(space, "rank", 3.0)]
    found = in_one_unit(space, curves, lambda point: nothing)
    assert all(np.array_equal(found[name], curve) for part in curves for name, curve in part.items())


def test_one_operator_needs_no_network(space):
    curves = [made(space, "rank", 3.0), {"block": np.zeros(2)}]
    assert in_one_unit(space, curves, None).keys() == curves[0].keys() | {"block"}


def test_measured_networks_are_changed_by_one_operator_alone(space):
    seen = []

    def divergence(point):
        changed = space.levels(point) != space.original_levels
        seen.append({knob.operator for knob, other in zip(space.knobs, changed, strict=True) if other})
        return 1.0

    in_one_unit(space, [made(space, "channels", 1.0), made(space, "rank", 1e-3)], divergence)
    assert seen == [{"channels"}, {"channels"}, {"rank"}, {"rank"}]
