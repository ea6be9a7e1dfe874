"""Joints beyond the random networks: each is cut, and compared with the original whose readers ignore what went."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from search_spaces import Channels, channel_space
from tests.kits.random_networks import agree, in_double, masked


def conv(n_in, n_out, kernel=1, **options):
    return nn.Conv2d(n_in, n_out, kernel, padding=kernel // 2, **options)


class Joint(nn.Module):
    """first -> the joint under test -> last, on maps of 8 channels."""

    def __init__(self):
        super().__init__()
        self.first, self.last = conv(3, 8, 3), nn.Linear(8, 3)
        self.set_up()

    def set_up(self):
        pass

    def forward(self, x):
        return self.last(self.joint(torch.tanh(self.first(x))).mean((2, 3)))


class Attention(Joint):
    def set_up(self):
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def joint(self, x):
        b, _, h, w = x.shape
        q, k, v = self.qkv(x.flatten(2).transpose(1, 2)).chunk(3, dim=-1)
        q, k, v = (t.reshape(b, h * w, 2, 4).transpose(1, 2) for t in (q, k, v))
        x = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.out(x).transpose(1, 2).reshape(b, 8, h, w)


class WrittenOutAttention(Joint):
    def set_up(self):
        self.q, self.k, self.v = (nn.Linear(8, 6) for _ in range(3))
        self.out = nn.Linear(6, 8)

    def joint(self, x):
        tokens = x.flatten(2).permute(0, 2, 1)
        weights = (self.q(tokens) @ self.k(tokens).mT * 0.4).softmax(dim=-1)
        return self.out(weights @ self.v(tokens)).permute(0, 2, 1).unflatten(2, (8, 8))


class Einsum(Joint):
    def set_up(self):
        self.a, self.b = conv(8, 6), conv(8, 6)
        self.back = nn.Linear(64, 8)

    def joint(self, x):
        a, b = self.a(x).flatten(2), self.b(x).flatten(2)
        return self.back(torch.einsum("ncx,ncy->nxy", a, b)).transpose(1, 2).unflatten(2, (8, 8))


class FunctionalConv(Joint):
    """A convolution whose parameters belong to no layer, with groups."""

    def set_up(self):
        self.weight = nn.Parameter(torch.randn(8, 2, 3, 3))
        self.bias = nn.Parameter(torch.randn(8))
        self.mix = conv(8, 8)

    def joint(self, x):
        return self.mix(F.conv2d(x, self.weight, self.bias, padding=1, groups=4).relu())


class Transposed(Joint):
    def set_up(self):
        self.up, self.each = nn.ConvTranspose2d(8, 8, 2, 2), nn.ConvTranspose2d(8, 8, 2, 2, groups=8)

    def joint(self, x):
        return self.each(self.up(x))


class Indexed(Joint):
    def set_up(self):
        self.register_buffer("order", torch.tensor([3, 1, 7, 0, 2, 6, 5, 4]))
        self.mix = conv(8, 8)

    def joint(self, x):
        return self.mix(torch.index_select(x, 1, self.order) + x[:, [7, 6, 5, 4, 3, 2, 1, 0]])


class Stacked(Joint):
    def set_up(self):
        self.a, self.b = conv(8, 8), conv(8, 8)

    def joint(self, x):
        a, b = torch.stack([self.a(x), self.b(x)], dim=1).unbind(1)
        return a * torch.sigmoid(b)


class Gated(Joint):
    """Sliced in two with an ellipsis, one half the gate of the other, and joined again."""

    def set_up(self):
        self.wide, self.mix = conv(8, 12), conv(12, 8)

    def joint(self, x):
        x = self.wide(x)
        a, b = x[:, :6, ...], x.narrow(1, 6, 6)
        return self.mix(torch.cat([a * b.sigmoid(), a.flip(1)], dim=1))


class Scaled(Joint):
    """Parameters used directly: layer scale, and a learnt map added."""

    def set_up(self):
        self.gamma = nn.Parameter(torch.randn(8))
        self.place = nn.Parameter(torch.randn(1, 8, 8, 8))
        self.mix = conv(8, 8)

    def joint(self, x):
        return self.mix(x * self.gamma.view(1, -1, 1, 1) + self.place)


class Shuffled(Joint):
    def set_up(self):
        self.shuffle, self.groups = nn.ChannelShuffle(2), conv(8, 8, 3, groups=2)

    def joint(self, x):
        return self.groups(self.shuffle(x))


class Resized(Joint):
    def set_up(self):
        self.mix = conv(16, 8)

    def joint(self, x):
        small = F.max_pool2d(x, 2)
        return self.mix(torch.cat([F.interpolate(small, size=x.shape[2:], mode="bilinear"), F.pad(x, (1, -1))], 1))


class Normalised(Joint):
    def set_up(self):
        self.instance, self.act = nn.InstanceNorm2d(8, affine=True), nn.PReLU(8)
        self.mix = conv(8, 8)

    def joint(self, x):
        x = F.batch_norm(self.instance(x), torch.zeros(8), torch.ones(8))
        return self.mix(F.dropout(self.act(x), training=self.training))


JOINTS = [
    *(Attention, WrittenOutAttention, Einsum, FunctionalConv, Transposed, Indexed, Stacked, Gated, Scaled, Shuffled),
    *(Resized, Normalised),
]


def space_of(joint):
    torch.manual_seed(0)
    model = joint().eval()
    return model, channel_space(model, (torch.randn(2, 3, 8, 8),), min_keep=0.01)


@pytest.mark.parametrize("joint", JOINTS)
def test_every_use_is_understood_and_cut_exactly(joint):
    model, space = space_of(joint)
    assert not space.operator(Channels).not_understood
    rng = np.random.default_rng(0)
    x = torch.randn(3, 3, 8, 8)
    for _ in range(10):
        point = space.point([int(rng.choice(knob.levels)) for knob in space.knobs])
        plan = space.plan(point, {group.name: rng.random(group.size) for group in space.groups})
        small = space.build(plan)
        assert agree(in_double(small, x), in_double(masked(model, space, plan), x))
        assert sum(p.numel() for p in small.parameters()) == space.cost(point, "params")


EXPECTED = {
    Attention: {"qkv"},  # queries and keys set the scale, values may shrink
    WrittenOutAttention: {"q", "v", "first"},
    FunctionalConv: {"first"},
    Transposed: {"first", "up"},
    Gated: {"first", "wide", "mix"},
    Scaled: {"first", "mix"},
}


@pytest.mark.parametrize("joint", EXPECTED)
def test_finds_the_groups_there_are(joint):
    _, space = space_of(joint)
    assert {group.name for group in space.groups} >= EXPECTED[joint]


class OverChannels(Joint):
    def joint(self, x):
        return x * torch.softmax(x, dim=1) + F.normalize(x) + x.amax(1, keepdim=True) * 0.1


class OneByOne(Joint):
    def joint(self, x):
        return x + x[:, 0].unsqueeze(1)


@pytest.mark.parametrize("joint", [OverChannels, OneByOne])
def test_what_depends_on_the_number_of_channels_stays(joint):
    torch.manual_seed(0)
    model = joint().eval()
    with pytest.raises(ValueError, match="nothing to search"):
        channel_space(model, (torch.randn(2, 3, 8, 8),))
