"""Heads of attention, and the width of each: both can go, in every way of writing it, and so do masks."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from search_spaces import Channels, channel_space
from search_spaces.graph.attention import WrittenOut
from search_spaces.graph.labels import FIXED, Labels
from tests.kits.random_joints import Attention
from tests.kits.random_networks import agree, in_double, masked

X = torch.randn(2, 16, 3, 3, generator=torch.Generator().manual_seed(0))


class Network(nn.Module):
    def __init__(self, spelling, heads=4):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(16, 16, 1), nn.Linear(16, 3)
        self.attention = Attention(np.random.default_rng(0), 16)
        self.attention.__init__(_Choose(spelling, heads), 16)

    def forward(self, x):
        return self.last(self.attention(self.first(x)).mean((2, 3)))


class _Choose:
    """A generator that draws what it is told."""

    def __init__(self, spelling, heads):
        self.drawn = iter([heads, spelling])

    def choice(self, among):
        return next(self.drawn)

    def integers(self, n):
        return 1


@pytest.mark.parametrize("spelling", Attention.SPELLINGS)
def test_heads_and_their_widths_can_go_in_every_spelling(spelling):
    space = channel_space(Network(spelling).eval(), (X,))
    assert not space.operator(Channels).not_understood
    sizes = {group.name: group.size for group in space.groups}
    heads = [name for name in sizes if name.endswith(":heads")]
    assert [sizes[name] for name in heads] == [4], sizes
    widths = [name for name in sizes if "attention" in name and name not in heads and sizes[name] == 4]
    assert widths, sizes
    rng = np.random.default_rng(0)
    for keep_heads, keep in itertools.product((1, 3), (1, 2, 4)):
        levels = [keep_heads if k.name in heads else keep if k.name in widths else k.size for k in space.knobs]
        point = space.point(levels)
        plan = space.plan(point, {group.name: rng.random(group.size) for group in space.groups})
        small = space.build(plan)
        assert agree(in_double(small, X), in_double(masked(space.original, space, plan), X))
        layer = small.get_submodule("attention.out" if spelling != "layer" else "attention.attention.out_proj")
        assert layer.in_features == keep_heads * keep * (2 if spelling == "grouped" else 1)


@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize(
    "options",
    [{"batch_first": True}, {}, {"bias": False, "kdim": 6, "vdim": 10, "batch_first": True}],
    ids=["batch first", "batch second", "other keys"],
)
def test_attention_written_out_is_the_layer(options, weights):
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(8, 2, dropout=0.1, **options).eval()
    n, m, batch = 5, 7, 3
    query, key = torch.randn(batch, n, 8), torch.randn(batch, m, options.get("kdim", 8))
    value = torch.randn(batch, m, options.get("vdim", 8))
    if not options.get("batch_first"):
        query, key, value = (x.transpose(0, 1) for x in (query, key, value))
    padding = torch.zeros(batch, m, dtype=torch.bool)
    padding[0, 4:] = True
    causal = torch.ones(n, m, dtype=torch.bool).triu(3)
    each = torch.randn(batch * 2, n, m)
    for masks in (
        {},
        {"key_padding_mask": padding},
        {"attn_mask": causal},
        {"attn_mask": each},
        {"attn_mask": causal.float() * -9, "key_padding_mask": padding.float() * -5},
    ):
        expected = layer(query, key, value, need_weights=weights, **masks)
        got = WrittenOut(layer).eval()(query, key, value, need_weights=weights, **masks)
        assert torch.allclose(got[0], expected[0], atol=1e-6)
        assert weights == (got[1] is not None) and (not weights or torch.allclose(got[1], expected[1], atol=1e-6))


def test_heads_of_keys_that_serve_several_queries_go_with_them():
    class Grouped(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.kv, self.out = nn.Linear(16, 32), nn.Linear(16, 16), nn.Linear(32, 4)

        def forward(self, x):
            q = self.q(x).view(*x.shape[:2], 4, 8).transpose(1, 2)
            k, v = self.kv(x).view(*x.shape[:2], 2, 2, 4).permute(2, 0, 3, 1, 4)
            q = q[..., :4]
            return self.out(
                F.scaled_dot_product_attention(q, k, v, enable_gqa=True).transpose(1, 2).flatten(2).repeat(1, 1, 2)
            )

    x = torch.randn(3, 6, 16)
    space = channel_space(Grouped().eval(), (x,))
    rng = np.random.default_rng(0)
    for _ in range(6):
        point = space.point([int(rng.choice(knob.levels)) for knob in space.knobs])
        plan = space.plan(point, {group.name: rng.random(group.size) for group in space.groups})
        assert agree(in_double(space.build(plan), x), in_double(masked(space.original, space, plan), x))


def test_labels_of_a_grid_go_with_either_of_their_places():
    labels = Labels()
    outer, inner = labels.fresh(3), labels.fresh(2)
    both = labels.product(outer, inner).ravel()
    assert labels.product(outer, inner).ravel().tolist() == both.tolist()
    first, second = labels.grid(np.concatenate([both, both]))
    assert (first.tolist(), second.tolist()) == (outer.tolist(), sorted([*inner, *inner]))
    assert labels.grid(both[:-1]) is None
    labels.fix(inner[:1], "stays")
    assert labels.parts(both)[0].tolist() == [outer[0], FIXED]
    assert labels.grid(both)[1].tolist() == [FIXED, inner[1]]
    labels.fix(both[:2], "stays too")  # the first of the outer ones, and so all of the inner ones
    assert labels.roots(both).tolist() == [FIXED, FIXED, outer[1], outer[1], outer[2], outer[2]]
    assert labels.reason(int(outer[0])) == "stays too" and labels.reason(int(inner[1])) == "stays too"


def test_ties_of_places_tie_both_their_parts():
    labels = Labels()
    grids = [(labels.fresh(2), labels.fresh(3)) for _ in range(2)]
    products = [labels.product(*grid).ravel() for grid in grids]
    plain = labels.fresh(6)
    labels.tie(products[0], plain, "is")
    labels.tie(plain, products[1], "is")
    for a, b in zip(*grids, strict=True):
        assert labels.roots(a).tolist() == labels.roots(b).tolist()
    assert labels.parts(plain).tolist() == labels.parts(products[0]).tolist()
