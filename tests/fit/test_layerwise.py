"""All that is done to layers, one layer after the other: closer to the original, whole, and fit to be trained."""

import pytest
import torch

from automl.config.evaluation import EvaluationOptions
from automl.fit.builder import Builder
from automl.fit.distance import Distance
from search_spaces import CodeStep, NetworkSpace, RankStep
from search_spaces.codecs.integers import integers_of
from tests.kits import digits

OPERATORS = {"rank": {}, "sparsity": {}, "code": {"formats": ["int2", "int4"]}}


@pytest.fixture(scope="module")
def made():
    """(problem, space, prepared builder) of a small residual network."""
    problem = digits.problem("resnet8")
    space = NetworkSpace(problem.model, problem.example_inputs, OPERATORS)
    builder = Builder(space, EvaluationOptions())
    builder.prepare(problem, torch.float32)
    return problem, space, builder


def points(space):
    """Points that keep 30, 50 and 70 % of everything."""
    return [space.point([knob.nearest(keep) for knob in space.knobs]) for keep in (0.3, 0.5, 0.7)]


def test_what_is_fitted_layer_after_layer_is_closer_to_the_original(made):
    problem, space, builder = made
    distance = Distance(problem.model, problem.validation, problem.kind.divergence)
    careful = builder.thorough(problem, blockwise=False)
    for point in points(space):
        assert distance.to(careful.build(point)) < distance.to(builder.build(point))


def test_every_step_is_taken_on_every_layer_that_it_names(made):
    problem, space, builder = made
    careful = builder.thorough(problem, blockwise=False)
    point = points(space)[0]
    plan, network = careful.plan(point), careful.build(point)
    assert plan.get(RankStep).schemes and plan.get(CodeStep).formats
    assert {name: tensor.shape for name, tensor in network.state_dict().items()} == {
        name: tensor.shape for name, tensor in space.build(plan).state_dict().items()
    }
    for name in plan.get(CodeStep).formats:
        layer = network.get_submodule(name)
        assert integers_of(layer.weight, layer.weight_scale) is not None
    again = careful.build(point)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in network.state_dict().items())


def test_factors_made_on_the_way_can_be_trained_and_tuned(made):
    problem, _, _ = made
    space = NetworkSpace(problem.model, problem.example_inputs, {"rank": {}})
    builder = Builder(space, EvaluationOptions())
    builder.prepare(problem, torch.float32)
    point = points(space)[0]
    careful, tuned = (builder.thorough(problem, blockwise=b, steps=60).build(point) for b in (False, True))
    loss = careful.train()(*problem.validation[0][0]).square().sum()
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in careful.parameters())
    distance = Distance(problem.model, problem.calibration, problem.kind.divergence)
    assert distance.to(tuned.eval()) < distance.to(careful.eval())
