"""Graph surgery on thousands of random networks: exact outputs, exact costs, any batch size, nothing left out."""

import numpy as np
import pytest
import torch

from search_spaces import Channels, Point, SpaceError, channel_space
from tests.kits import amount
from tests.kits.random_networks import (
    EVERY,
    RandomNetwork,
    agree,
    assert_costs,
    in_double,
    macs_of,
    masked,
    random_levels,
)

NETWORKS = amount.of(2000, 300)
CHUNKS = 20


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_rebuilt_equals_masked_and_costs_what_was_predicted(chunk):
    torch.set_num_threads(1)
    for seed in range(chunk, NETWORKS, CHUNKS):
        check(seed)


def check(seed):
    model = RandomNetwork(seed, EVERY)
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 3, 8, 8, generator=generator)
    try:
        space = channel_space(model, (x,), min_keep=0.01)
    except SpaceError as error:
        assert "no channels" in str(error)  # every joint was tied into one
        return
    assert not space.operator(Channels).not_understood, f"seed {seed}: {space.operator(Channels).not_understood}"
    point = Point(random_levels(space, rng))
    # Scores decide which channels go; random ones reach the awkward choices that magnitudes never make.
    plan = space.plan(point, {group.name: rng.random(group.size) for group in space.groups})
    small = space.build(plan)

    y = torch.randn(7, 3, 8, 8, generator=generator)
    expected = in_double(masked(space.original, space, plan), y)
    for n in (7, 1):
        got = in_double(small, y[:n])
        assert agree(got, expected[:n]), f"seed {seed}, a batch of {n}: {got} for {expected[:n]}"

    assert_costs(space, point, small, y[:3], seed)  # which runs it on a batch of 3
    assert space.original_cost("macs") == macs_of(model, x), f"seed {seed}"
