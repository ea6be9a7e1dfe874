"""Patterns of zeros: which there are, what they keep, and that counts never fall."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from search_spaces import Plan, SpaceError, Sparsity, SparsityStep, weight_space
from search_spaces.operators.patterns import Pattern, pattern_of
from search_spaces.operators.ranking import columns, ranked

NAMES = ("unstructured", "2:4", "1:4", "4:8", "1x4", "4x4", "4x1", "2x3")
SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 12), st.sampled_from([(), (3,), (2, 2)]))


@pytest.mark.parametrize("name", ["2:4:8", "4:4", "4:2", "0:4", "1x", "x4", "1 x 4", "", "2.0:4", "02:4"])
def test_what_is_no_pattern_is_refused(name):
    with pytest.raises(SpaceError, match="expected unstructured, N:M such as 2:4"):
        pattern_of(name)


@given(st.sampled_from(NAMES), SHAPES, st.floats(0.05, 1), st.integers(0, 5))
def test_the_first_of_any_count_are_a_legal_choice(name, shape, share, seed):
    pattern = pattern_of(name)
    out, features, kernel = shape
    scores = torch.rand(out, features, *kernel, generator=torch.Generator().manual_seed(seed))
    share = pattern.most / pattern.of if pattern.grouped else share
    count = int(pattern.counts(np.array(share), np.array(scores.numel())))
    order = ranked(scores, pattern)
    assert sorted(order.flatten().tolist()) == list(range(scores.numel()))
    kept = (order < count).flatten(1)[:, columns(scores)]
    width = kept.shape[1]
    if pattern.grouped:
        groups = kept.split(pattern.of, dim=1)
        assert all(int(group.sum(1).max()) <= pattern.most for group in groups)
    else:
        down, across = out // pattern.rows * pattern.rows, width // pattern.columns * pattern.columns
        blocks = kept[:down, :across].unflatten(0, (-1, pattern.rows)).unflatten(2, (-1, pattern.columns))
        assert torch.equal(blocks.any(3).any(1), blocks.all(3).all(1)) or blocks.numel() == 0


@given(st.sampled_from(NAMES), st.integers(1, 300), st.integers(0, 300), st.floats(0.01, 1), st.floats(0.01, 1))
def test_counts_never_fall_and_two_layers_keep_no_more_than_one(name, one, other, low, high):
    pattern, (low, high) = pattern_of(name), sorted((low, high))

    def count(share, weights):
        return float(pattern.counts(np.array(share), np.array(float(weights))))

    assert count(low, one) <= count(high, one) <= one == count(1.0, one)
    assert count(low, one) <= count(low, one + other)
    assert count(low, one) + count(low, other) <= count(low, one + other)


def test_of_each_group_the_highest_stay_and_blocks_by_the_sum_of_their_squares():
    scores = torch.tensor([[4.0, 1, 3, 2, 5, 5, 5, 5], [1, 2, 3, 4, 0, 0, 0, 9]])
    kept = ranked(scores, pattern_of("2:4")) < 8
    assert kept.int().tolist() == [[1, 0, 1, 0, 1, 1, 0, 0], [0, 0, 1, 1, 1, 0, 0, 1]]
    kept = ranked(scores, pattern_of("1x4")) < 8
    assert kept.int().tolist() == [[0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1, 1, 1]]


def test_neighbours_of_a_pattern_are_input_channels_of_one_kernel_position():
    scores = torch.zeros(1, 4, 1, 2)
    scores[0, :2, 0, 0], scores[0, 2:, 0, 1] = 1, 1
    assert torch.equal(ranked(scores, pattern_of("2:4")) < 4, scores > 0)


class Net(nn.Module):
    """A stem of three channels, which no pattern of four fills, convolutions, one of them transposed, and a head."""

    def __init__(self):
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 24, 3, padding=1)
        self.up, self.head = nn.ConvTranspose2d(24, 16, 2, stride=2), nn.Linear(16, 20)

    def forward(self, x):
        return self.head(self.up(self.conv(self.stem(x).relu()).relu()).mean((2, 3)))


@pytest.fixture
def x():
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_what_a_pattern_does_not_fill_stays_whole_and_is_named(x):
    torch.manual_seed(0)
    sparsity = weight_space(Net(), (x,), pattern="2:4").operator(Sparsity)
    assert [(knob.name, knob.levels) for knob in sparsity.knobs] == [
        ("conv.weight", (1728, 3456)),
        ("head.weight", (160, 320)),
    ]
    assert {item.name: item.reason for item in sparsity.whole} == {
        "stem.weight": "has 16 rows of 27 weights, which 2:4 does not fill",
        "up.weight": "is a transposed convolution, for which there is no pattern 2:4",
    }
    assert "stays whole" in sparsity.inventory()[1].columns


@pytest.mark.parametrize("name", ["2:4", "1x4", "4x4"])
def test_zeros_of_the_original_count_as_gone(name, x):
    torch.manual_seed(0)
    model = Net()
    with torch.no_grad():
        model.head.weight[:4] = 0  # whole blocks
        model.conv.weight[0, 3, 1, 1] = 0
    space = weight_space(model, (x,), pattern=name)
    blocks = not pattern_of(name).grouped
    reasons = [item.reason for item in space.operator(Sparsity).whole if item.name == "conv.weight"]
    assert reasons == ([f"has zeros that do not fill blocks of {name}"] if blocks else [])
    for levels in (space.lowest, space.highest):
        point = space.point(levels.tolist())
        network = space.build(space.plan(point))
        assert space.cost(point, "params") == sum(int(p.count_nonzero()) for p in network.parameters())


def test_a_plan_says_its_pattern_and_is_refused_if_it_does_not_keep_it(x):
    space = weight_space(Net(), (x,), pattern="1x4")
    plan = space.plan(space.point(space.lowest.tolist()))
    assert plan.steps[0].pattern == "1x4" and Plan.from_json(plan.to_json()) == plan
    weight = weight_space(Net(), (x,)).build(plan).get_parameter("head.weight")
    blocks = (weight != 0).view(20, -1, 4)
    assert torch.equal(blocks.any(2), blocks.all(2)) and 0 < int(blocks.sum()) < 320
    for counts, pattern in (({"head.weight": 30}, "1x4"), ({"head.weight": 80}, "2:4")):
        with pytest.raises(SpaceError, match="which the pattern"):
            space.build(Plan((SparsityStep(counts, pattern=pattern),)))
    with pytest.raises(SpaceError, match="pattern cannot be"):
        space.build(Plan((SparsityStep({"head.weight": 80}, pattern="nothing"),)))


def test_a_pattern_knows_its_levels():
    assert pattern_of("1:4").levels(400, 0.5) == (100, 400)
    assert pattern_of("4x4") == Pattern(rows=4, columns=4)
    levels = pattern_of("4x4").levels(6400, 0.1)
    assert levels[0] == 640 and levels[-1] == 6400 and len(levels) == 64 and all(level % 16 == 0 for level in levels)
