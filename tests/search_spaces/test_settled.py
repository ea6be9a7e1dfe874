"""Norms after integer weights are moved into their scales: the same network, in fewer bytes."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from automl.measures.counts import state_tensors
from search_spaces import Code, CodeStep, NetworkSpace
from search_spaces.codecs.integers import integers_of
from search_spaces.codecs.packing import pack
from search_spaces.settled import settle_norms
from tests.kits import digits

FORMATS = ["binary", "ternary", "int2", "int4"]


@pytest.fixture(scope="module")
def coded():
    """A network whose layers have all formats, and whose norms are not those of a fresh one; and inputs."""
    problem = digits.problem("resnet8")
    model = copy.deepcopy(problem.model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for norm in (m for m in model.modules() if isinstance(m, _BatchNorm)):
            norm.weight.copy_(torch.randn(norm.weight.shape, generator=generator))
            norm.running_mean.copy_(torch.randn(norm.weight.shape, generator=generator))
    space = NetworkSpace(model, problem.example_inputs, {"code": {"formats": FORMATS}})
    levels = [knob.levels[i % len(FORMATS)] for i, knob in enumerate(space.knobs)]
    plan = space.plan(space.point(levels))
    return Code.rebuild(space.surgery(plan), plan.get(CodeStep)).eval(), problem.validation[0][0]


def scales(network):
    return {name: (m.weight, m.weight_scale) for name, m in network.named_modules() if hasattr(m, "weight_scale")}


def test_the_network_computes_the_same_in_fewer_bytes(coded):
    network, inputs = copy.deepcopy(coded[0]), coded[1]
    with torch.no_grad():
        before = network(*inputs)
        settle_norms(network)
        after = network(*inputs)
    torch.testing.assert_close(after, before, rtol=1e-2, atol=0.05)  # scales have 8 bits then
    told = [scale for weight, scale in scales(network).values() if weight.ndim == 4]  # with a norm
    assert all(torch.equal(scale, scale.bfloat16().float()) for scale in told)
    assert len(scales(network)) > 4
    assert all(integers_of(*pair) is not None for pair in scales(network).values())
    short, whole = (len(pack(state_tensors(n)[0])) for n in (network, coded[0]))
    assert short < whole - 8 * sum(len(scale) for _, scale in scales(network).values())
    again = copy.deepcopy(network)
    settle_norms(again)
    for (weight, scale), (other, larger) in zip(scales(network).values(), scales(again).values(), strict=True):
        torch.testing.assert_close(other, weight, rtol=1e-6, atol=0)
        torch.testing.assert_close(larger, scale, rtol=1e-6, atol=0)


def test_a_channel_that_is_switched_off_keeps_integers_and_adds_what_its_norm_did(coded):
    network, inputs = copy.deepcopy(coded[0]), coded[1]
    norm = [m for m in network.modules() if isinstance(m, _BatchNorm)][1]  # the first layer keeps its numbers
    nn.init.zeros_(norm.weight[:1].data)
    with torch.no_grad():
        before = network(*inputs)
        settle_norms(network)
        torch.testing.assert_close(network(*inputs), before, rtol=1e-2, atol=0.05)
    assert torch.equal(norm.weight, torch.ones_like(norm.weight)) and not norm.running_mean.any()
    assert all(integers_of(*pair) is not None for pair in scales(network).values())


@pytest.mark.parametrize("formats", [["int2", "int4"], ["coded2", "coded4"], ["shared2", "shared4"]])
def test_what_norms_need_not_tell_is_not_foretold(formats):
    """Where weights keep their numbers norms are foretold as they are; the file is never longer."""
    problem = digits.problem("resnet8")
    model = copy.deepcopy(problem.model)
    for norm in (m for m in model.modules() if isinstance(m, _BatchNorm)):
        nn.init.normal_(norm.running_mean)
    space = NetworkSpace(model, problem.example_inputs, {"code": {"formats": formats}})
    channels = sum(len(m.weight) for m in model.modules() if isinstance(m, _BatchNorm))
    costs = {}
    for level in (0, 1, -1):
        point = space.point([knob.levels[level] for knob in space.knobs])
        costs[level] = space.cost(point, "size_bytes")
        assert len(pack(state_tensors(space.build(space.plan(point)))[0])) <= costs[level]
    weights = sum(t.size for t in space.operators[0].tensors)
    bits = {level: space.knobs[0].levels[level] for level in (0, 1)}
    assert costs[0] < costs[1] < costs[-1] - 10 * channels - weights * 3, bits
