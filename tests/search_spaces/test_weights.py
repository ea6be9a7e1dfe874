"""The space of single weights: which tensors it finds, what is kept, and what the packed file is predicted to take."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from automl.export.packed import pack
from automl.measures import state_tensors
from search_spaces import ChannelsStep, Plan, SpaceError, Sparsity, SparsityStep, channel_space, weight_space
from search_spaces.codecs.packing import laid_out
from tests.kits.spaces import BuildingSpaceConformance


class Chain(nn.Module):
    """Convolutions of every kind this space has to tell apart, a linear layer used twice, and tied weights."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)  # 216 weights: too few
        self.conv, self.norm = nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16)
        self.grouped = nn.Conv2d(16, 32, 3, padding=1, groups=2)
        self.depthwise = nn.Conv2d(32, 32, 3, padding=1, groups=32)
        self.up = nn.ConvTranspose2d(32, 8, 2, stride=2)
        self.mix, self.tied = nn.Linear(8, 64), nn.Linear(8, 64)
        self.tied.weight = self.mix.weight
        self.back = nn.Linear(64, 8)
        self.head = nn.Linear(8, 40)

    def forward(self, x):
        x = F.relu(self.norm(self.conv(F.relu(self.stem(x)))))
        x = self.up(F.relu(self.depthwise(F.relu(self.grouped(x))))).mean((2, 3))
        x = self.back(F.relu(self.mix(x)))
        return self.head(self.back(F.relu(self.tied(x))))


class Attention(nn.Module):
    """A layer that is recorded as one call and holds a linear layer of its own."""

    def __init__(self):
        super().__init__()
        self.attend, self.linear = nn.MultiheadAttention(24, 2, batch_first=True), nn.Linear(24, 20)

    def forward(self, x):
        x = x.flatten(2).mT.repeat(1, 1, 8)
        return self.linear(self.attend(x, x, x)[0].mean(1))


def make(kind=Chain):
    torch.manual_seed(0)
    return kind().eval()


@pytest.fixture
def x():
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class TestWeightSpace(BuildingSpaceConformance):
    @pytest.fixture(params=[Chain, Attention])
    def model(self, request):
        return make(request.param)

    @pytest.fixture
    def space(self, model, x):
        return weight_space(model, (x,), min_keep=0.1)

    def test_a_built_network_trains_and_is_smaller(self, space, x):
        point = space.point([knob.levels[0] for knob in space.knobs])
        sparse = space.build(space.plan(point)).train()
        sparse(x).square().mean().backward()
        assert all(p.grad is not None and p.grad.shape == p.shape for p in sparse.parameters() if p.requires_grad)
        whole = sum(int(p.count_nonzero()) for p in space.original.parameters())
        assert sum(int(p.count_nonzero()) for p in sparse.parameters()) < whole

    def test_a_strange_plan_is_refused(self, space):
        name, size = space.knobs[0].name, space.knobs[0].size
        with pytest.raises(SpaceError, match="does not have"):
            space.build(Plan((SparsityStep(counts={"nobody": 3}),)))
        with pytest.raises(SpaceError, match="does not have"):
            space.build(Plan((ChannelsStep({"nobody": (0,)}),)))
        for count in (-1, size + 1):
            with pytest.raises(SpaceError, match="expected some of"):
                space.build(Plan((SparsityStep(counts={name: count}),)))
        for scale in ((1.0,), (-1.0,) * space.operator(Sparsity).in_channels(name)):
            with pytest.raises(SpaceError, match="numbers, expected"):
                space.build(Plan((SparsityStep(counts={name: 3}, scales={name: scale}),)))

    def test_costs_are_those_of_the_built_network(self, space):
        ends = [space.point(levels.tolist()) for levels in (space.lowest, space.highest)]
        for point in [*self.points(space, 10), *ends]:
            network = space.build(space.plan(point))
            assert space.cost(point, "params") == sum(int(p.count_nonzero()) for p in network.parameters())
            fixed = len(laid_out(state_tensors(network)[0], (), coded=False))
            assert len(pack(network)) <= space.cost(point, "size_bytes") <= 1.02 * fixed

    def test_zeros_of_the_original_count_as_gone(self, model, x):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.masked_fill_(parameter.abs() < parameter.abs().median(), 0)
        space = weight_space(model, (x,), min_keep=0.1)
        for point in [*self.points(space, 5), space.point(space.highest.tolist())]:
            network = space.build(space.plan(point))
            assert space.cost(point, "params") == sum(int(p.count_nonzero()) for p in network.parameters())
            fixed = len(laid_out(state_tensors(network)[0], (), coded=False))
            assert len(pack(network)) <= space.cost(point, "size_bytes") <= 1.02 * fixed


def test_knobs_are_the_tensors_worth_it_in_the_order_of_use_and_shared_ones_count_once(x):
    space = weight_space(make(), (x,))
    expected = ["conv.weight", "grouped.weight", "up.weight", "mix.weight", "back.weight", "head.weight"]
    assert [knob.name for knob in space.knobs] == expected
    assert {knob.unit for knob in space.knobs} == {"weights"}
    assert [knob.size for knob in space.knobs] == [1152, 2304, 1024, 512, 512, 320]
    assert space.operator(Sparsity).tensors[3].layers == ("mix", "tied")
    assert {item.name: item.reason.split(":")[0] for item in space.operator(Sparsity).whole} == {
        "stem.weight": "has fewer than 256 weights",
        "depthwise.weight": "is depthwise",
    }
    assert all(len(knob.levels) == 64 and knob.levels[0] == -(-knob.size // 10) for knob in space.knobs)
    # A sample: 4x4 outputs, 4x4, 8x8 read by up with stride 2 as 4x4; linear layers once, `back` twice.
    assert [tensor.macs for tensor in space.operator(Sparsity).tensors] == [
        1152 * 16,
        2304 * 16,
        1024 * 16,
        512 * 2,
        512 * 2,
        320,
    ]
    assert [(tensor.height, tensor.width) for tensor in space.operator(Sparsity).tensors[:4]] == [
        (8, 8),
        (4, 4),
        (4, 4),
        (1, 1),
    ]


def test_shared_weights_stay_shared(x):
    space = weight_space(make(), (x,))
    network = space.build(space.plan(space.point(space.lowest.tolist())))
    assert network.get_parameter("tied.weight") is network.get_parameter("mix.weight")


def test_the_largest_weights_stay_and_of_several_alike_the_first(x):
    model = make()
    with torch.no_grad():
        model.conv.weight.copy_(torch.arange(1152.0).reshape(16, 8, 3, 3) % 7 - 3)  # -3 .. 3, many alike
    space = weight_space(model, (x,))
    kept = space.build(Plan((SparsityStep(counts={"conv.weight": 400}),))).get_parameter("conv.weight").flatten()
    flat = model.conv.weight.detach().flatten()
    threes, twos = (flat.abs() == 3).nonzero()[:, 0], (flat.abs() == 2).nonzero()[:, 0]
    expected = torch.zeros_like(flat)
    stay = torch.cat([threes, twos[: 400 - len(threes)]])
    assert 0 < 400 - len(threes) < len(twos)
    expected[stay] = flat[stay]
    assert torch.equal(kept, expected)
    others = space.build(Plan((SparsityStep(counts={"conv.weight": 400}),)))
    assert torch.equal(others.get_parameter("grouped.weight"), model.grouped.weight)


@pytest.mark.parametrize("name", ["conv.weight", "grouped.weight", "up.weight", "mix.weight"])
def test_scales_weigh_the_input_channels(name, x):
    space = weight_space(make(), (x,))
    scale = np.ones(space.operator(Sparsity).in_channels(name))
    scale[1] = 0  # nothing that reads channel 1 may stay before anything else
    point = space.point(space.levels(space.project(np.full(len(space.knobs), 0.5), {"params": 4000})).tolist())
    plan = space.plan(point, {name: scale})
    assert Plan.from_json(plan.to_json()) == plan
    layer = space.build(plan).get_submodule(name.removesuffix(".weight"))
    channels = torch.eye(len(scale))  # one sample a channel, that channel alone 1 everywhere
    made = layer(channels if name == "mix.weight" else channels[:, :, None, None].expand(-1, -1, 4, 4))
    bias = 0 if layer.bias is None else layer.bias.reshape(1, -1, *[1] * (made.ndim - 2))
    loud = (made - bias).flatten(1).abs().sum(1)
    assert loud[1] == 0
    assert (loud[[0, *range(2, len(scale))]] > 0).all()


def test_min_keep_and_exclude(x):
    space = weight_space(make(), (x,), min_keep=0.5, exclude=["conv", "mix.*"])
    assert [knob.name for knob in space.knobs] == ["grouped.weight", "up.weight", "back.weight", "head.weight"]
    assert [knob.levels[0] for knob in space.knobs] == [1152, 512, 256, 160]
    assert [item.reason for item in space.operator(Sparsity).whole if item.name == "conv.weight"] == [
        "is excluded by the study"
    ]
    with pytest.raises(SpaceError, match=r"'nobody' matches no convolution .* there are stem, conv"):
        weight_space(make(), (x,), exclude=["nobody"])
    with pytest.raises(SpaceError, match="min_keep"):
        weight_space(make(), (x,), min_keep=0)
    with pytest.raises(SpaceError, match="there is nothing to search"):
        weight_space(make(), (x,), exclude=["*"])


def test_a_plan_is_replayed_whatever_space_it_comes_from(x):
    plan = Plan((SparsityStep(counts={"conv.weight": 3}),))
    assert json.loads(plan.to_json()) == [{"operator": "sparsity", "counts": {"conv.weight": 3}}]
    network = channel_space(make(), (x,)).build(plan)
    assert int(network.get_parameter("conv.weight").count_nonzero()) == 3
    assert Plan.from_json('{"kept":{},"weights":{"conv.weight":3}}') == plan
