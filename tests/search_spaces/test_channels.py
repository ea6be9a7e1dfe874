"""The space of channel widths on networks whose groups are known by hand."""

import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from search_spaces import Channels, ChannelsStep, Plan, SpaceError, channel_space
from tests.kits.plans import kept_by
from tests.kits.spaces import BuildingSpaceConformance


class Chain(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 12, 3, padding=1)
        self.linear = nn.Linear(12 * 16, 5)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.linear(x.view(x.size(0), -1))


class OptionA(nn.Module):
    """Three stages of 4, 8, 16 channels; each shortcut is padded with zero channels on both sides."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.down2, self.up2 = nn.Conv2d(4, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1)
        self.down3, self.up3 = nn.Conv2d(8, 16, 3, 2, 1), nn.Conv2d(16, 16, 3, 1, 1)
        self.linear = nn.Linear(16, 5)

    def forward(self, x):
        x = F.relu(self.stem(x))
        x = F.relu(self.up2(F.relu(self.down2(x))) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2)))
        x = F.relu(self.up3(F.relu(self.down3(x))) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4)))
        return self.linear(x.mean((2, 3)))


class Strange(nn.Module):
    """A recurrent layer in the middle, which no rule understands, and an attention."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 6, 3, padding=1)
        self.recurrent = nn.GRU(6, 7, batch_first=True)
        self.hidden, self.linear = nn.Linear(7, 10), nn.Linear(10, 4)

    def forward(self, x):
        x = self.conv2(F.relu(self.conv1(x)))
        x, _ = self.recurrent(x.flatten(2).transpose(1, 2))
        return self.linear(F.relu(self.hidden(x[:, -1])))


class Transformer(nn.Module):
    """torch.nn's own transformer: the attention is a layer that no rule understands, the rest is looked into."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(12, 3, dim_feedforward=20, batch_first=True)
        self.patches = nn.Conv2d(3, 12, 4, 4)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.linear = nn.Linear(12, 5)

    def forward(self, x):
        return self.linear(self.encoder(self.patches(x).flatten(2).mT).mean(1))


def make(kind):
    torch.manual_seed(0)
    return kind().eval()


@pytest.fixture
def x():
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class TestChain(BuildingSpaceConformance):
    @pytest.fixture
    def model(self):
        return make(Chain)

    @pytest.fixture
    def space(self, model, x):
        return channel_space(model, (x,))


class TestOptionA(BuildingSpaceConformance):
    @pytest.fixture
    def model(self):
        return make(OptionA)

    @pytest.fixture
    def space(self, model, x):
        return channel_space(model, (x,), min_keep=0.25)

    def test_the_stream_falls_apart_by_how_far_its_channels_reach(self, space):
        sizes = {group.name: (group.size, set(group.layers)) for group in space.groups}
        assert sizes == {
            "stem": (4, {"stem", "up2", "up3"}),
            "down2": (8, {"down2"}),
            "up2": (4, {"up2", "up3"}),
            "down3": (16, {"down3"}),
            "up3": (8, {"up3"}),
        }

    def test_padding_follows_what_is_kept(self, space, x):
        plan = Plan((ChannelsStep({"stem": (1, 2), "up2": (0, 3), "up3": (0,)}),))
        small = space.build(plan)
        assert small.linear.weight.shape == (5, 5)
        assert small(x).shape == (4, 5)


class TestStrange(BuildingSpaceConformance):
    @pytest.fixture
    def model(self):
        return make(Strange)

    @pytest.fixture
    def space(self, model, x):
        return channel_space(model, (x,))

    def test_what_is_not_understood_is_named_and_does_not_break_the_rest(self, space):
        assert space.operator(Channels).not_understood == {"recurrent": "GRU"}
        assert [group.name for group in space.groups] == ["conv1", "hidden"]
        reasons = {fixed.name: fixed.reason for fixed in space.operator(Channels).fixed}
        assert "GRU" in reasons["conv2"]
        assert "output" in reasons["linear"]


class TestTransformer(BuildingSpaceConformance):
    @pytest.fixture
    def model(self):
        return make(Transformer)

    @pytest.fixture
    def space(self, model, x):
        return channel_space(model, (x,))

    def test_heads_and_their_widths_are_found(self, space):
        inside = [group.name for group in space.groups if group.name.startswith("encoder.layers.0.")]
        attention = [f"encoder.layers.0.self_attn.{name}" for name in ("q:heads", "q", "v")]
        assert inside == [*attention, "encoder.layers.0.linear1"]
        assert not space.operator(Channels).not_understood


def test_scores_decide_and_magnitude_is_the_default(x):
    model = make(Chain)
    with torch.no_grad():
        model.conv2.weight[:, 5] = 0
        model.conv2.weight[:, 2] *= 0.01
    space = channel_space(model, (x,))
    point = space.point([6, 12])
    assert kept_by(space.plan(point))["conv1"] == (0, 1, 3, 4, 6, 7)
    scores = {"conv1": np.arange(8), "conv2": np.ones(12)}
    assert kept_by(space.plan(point, scores))["conv1"] == (2, 3, 4, 5, 6, 7)


def test_slices_name_what_remains_of_every_layer(x):
    space = channel_space(make(Chain), (x,))
    slices = space.slices(Plan((ChannelsStep({"conv1": (0, 7), "conv2": (1, 2, 3)}),)))
    assert slices["conv1"].kept_in.tolist() == [0, 1, 2]
    assert slices["conv1"].kept_out.tolist() == [0, 7]
    assert slices["conv2"].kept_in.tolist() == [0, 7]
    assert slices["linear"].kept_in.tolist() == list(range(16, 64))
    assert slices["linear"].kept_out.tolist() == list(range(5))


def test_round_to_and_min_keep_limit_the_levels(x):
    space = channel_space(make(Chain), (x,), min_keep=0.5, round_to=4)
    assert [knob.levels for knob in space.knobs] == [(4, 8), (8, 12)]


@pytest.mark.parametrize(
    ("options", "levels"),
    [
        ({"steps": 4}, [(2, 4, 6, 8), (3, 6, 9, 12)]),
        ({"steps": 4, "min_keep": 0.3}, [(4, 6, 8), (6, 9, 12)]),
        ({"steps": 5}, [(2, 3, 5, 6, 8), (2, 5, 7, 10, 12)]),
        ({"steps": 4, "round_to": 4}, [(4, 8), (4, 8, 12)]),
        ({"steps": 100}, [tuple(range(1, 9)), tuple(range(2, 13))]),
    ],
)
def test_steps_leave_a_coarse_grid_of_legal_levels(x, options, levels):
    space = channel_space(Chain(), (x,), **options)
    assert [knob.levels for knob in space.knobs] == levels
    assert pickle.loads(pickle.dumps(space)).knobs == space.knobs


def test_excluded_groups_stay_and_are_named(x):
    space = channel_space(make(Chain), (x,), exclude=["conv1"])
    assert [knob.name for knob in space.knobs] == ["conv2"]
    assert any(item.name == "conv1" and "excluded" in item.reason for item in space.operator(Channels).fixed)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_keep": 0}, "min_keep"),
        ({"min_keep": 1.5}, "min_keep"),
        ({"round_to": 0}, "round_to"),
        ({"steps": 1}, "steps"),
        ({"exclude": ["nothing*"]}, "matches no group"),
        ({"exclude": ["*"]}, "nothing to search"),
    ],
)
def test_bad_options_get_one_clear_error(x, options, message):
    with pytest.raises(SpaceError, match=message):
        channel_space(make(Chain), (x,), **options)


def test_a_network_of_one_layer_has_nothing_to_search():
    with pytest.raises(SpaceError, match="output of the network"):
        channel_space(nn.Linear(4, 3), (torch.randn(2, 4),))


def test_frozen_parameters_stay_frozen(x):
    model = make(Chain)
    model.conv1.weight.requires_grad_(False)
    space = channel_space(model, (x,))
    small = space.build(space.plan(space.point([4, 6])))
    assert not small.conv1.weight.requires_grad
    assert small.conv2.weight.requires_grad


def test_layers_that_share_a_parameter_still_share_it(x):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
            self.b.weight = self.a.weight
            self.last = nn.Linear(6, 2)

        def forward(self, x):
            return self.last(self.b(F.relu(self.a(F.relu(self.first(x))))))

    torch.manual_seed(0)
    space = channel_space(Tied().eval(), (torch.randn(3, 6),))
    point = space.point([knob.levels[0] for knob in space.knobs])
    small = space.build(space.plan(point))
    assert small.a.weight is small.b.weight
    assert sum(p.numel() for p in small.parameters()) == space.cost(point, "params")
