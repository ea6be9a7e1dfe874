"""A narrowed space: what a pruned and trained network can still lose, in the numbering of the original."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn

from search_spaces import ChannelsStep, Plan, Point, SpaceError, channel_space
from tests.kits.plans import kept_by
from tests.kits.random_networks import ChannelsLast, RandomNetwork, agree, in_double, masked, random_levels


def trained(network, seed):
    """`network` with other weights, as after training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in network.parameters():
            tensor.add_(torch.rand(tensor.shape, generator=generator), alpha=0.1)
        for name, tensor in network.named_buffers():
            if "running" in name:
                tensor.add_(torch.rand(tensor.shape, generator=generator))
    return network


def drawn(space, rng):
    return space.plan(Point(random_levels(space, rng)), {group.name: rng.random(group.size) for group in space.groups})


@torch.no_grad()
def test_any_network_is_cut_again_from_its_trained_weights():
    torch.set_num_threads(1)
    compared = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
        try:
            space = channel_space(RandomNetwork(seed), (x,), min_keep=0.01)
        except SpaceError:
            continue
        plan = drawn(space, rng)
        small = trained(space.build(plan), seed)
        left = space.narrowed(small, plan)

        again = left.build(plan).state_dict()
        assert all(torch.equal(again[name], tensor) for name, tensor in small.state_dict().items()), seed
        assert space.levels(Point({name: len(kept) for name, kept in kept_by(plan).items()})).tolist() == [
            knob.levels[-1] for knob in left.knobs
        ]
        if not any(isinstance(module, (nn.GroupNorm, ChannelsLast, nn.LayerNorm)) for module in small.modules()):
            compared += 1
            assert agree(in_double(left.original, x), in_double(small, x)), seed

        further = drawn(left, rng)
        assert all(set(kept_by(further)[name]) <= set(kept_by(plan)[name]) for name in kept_by(plan))
        expected = in_double(masked(left.original, left, further), x)
        assert agree(in_double(left.build(further), x), expected), seed
        assert all(
            left.cost(point, m) == space.cost(point, m) for point in [left.point(left.lowest)] for m in left.metrics
        )
    assert compared >= 3  # the others normalise over channels somewhere


@pytest.fixture
def halves():
    torch.manual_seed(0)
    space = channel_space(nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 3)), (torch.randn(2, 1, 6, 6),))
    plan = Plan((ChannelsStep({"0": (1, 2, 5, 6)}),))
    return space, plan, space.narrowed(trained(space.build(plan), 0), plan)


def test_what_is_gone_cannot_be_kept(halves):
    space, _, left = halves
    assert left.knobs[0].levels == (1, 2, 3, 4) and left.knobs[0].size == 8
    assert left.plan(left.point([2]), {"0": np.arange(8.0)}) == Plan((ChannelsStep({"0": (5, 6)}),))
    with pytest.raises(SpaceError, match=r"expected some of \[1, 2, 5, 6\]"):
        left.build(Plan((ChannelsStep({"0": (0, 1)}),)))
    with pytest.raises(SpaceError, match="no level 5"):
        left.point([5])
    assert space.knobs[0].levels[-1] == 8 and space.plan(space.point([8])) == Plan(
        (ChannelsStep({"0": tuple(range(8))}),)
    )


def test_the_original_stays_as_it_was(halves):
    space, plan, _ = halves
    before = {name: tensor.clone() for name, tensor in space.original.state_dict().items()}
    space.narrowed(trained(space.build(plan), 1), plan)
    assert all(torch.equal(before[name], tensor) for name, tensor in space.original.state_dict().items())


def test_a_narrowed_space_can_be_pickled_and_narrowed_again(halves):
    _, plan, left = halves
    other = pickle.loads(pickle.dumps(left))
    assert other.knobs == left.knobs and other.plan(other.point([3])) == left.plan(left.point([3]))
    assert all(
        torch.equal(a, b) for a, b in zip(left.build(plan).parameters(), other.build(plan).parameters(), strict=True)
    )
    less = Plan((ChannelsStep({"0": (2, 6)}),))
    assert left.narrowed(left.build(less), less).knobs[0].levels == (1, 2)


def test_what_is_kept_of_a_value():
    class Doubled(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(1, 3, 1), nn.Conv2d(1, 2, 1), nn.Conv2d(5, 2, 1)

        def forward(self, x):
            return self.c(torch.cat([self.a(x), self.b(x)], dim=1).relu())

    space = channel_space(Doubled(), (torch.randn(2, 1, 4, 4),))
    batch, channels, height, width = space.kept_in_value("relu", Plan((ChannelsStep({"a": (1,), "b": (0,)}),)))
    assert channels.tolist() == [1, 3]
    assert [len(part) for part in (batch, height, width)] == [2, 4, 4]
    with pytest.raises(SpaceError, match="no node 'nothing'"):
        space.kept_in_value("nothing", Plan())
