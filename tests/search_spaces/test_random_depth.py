"""Removing blocks, narrowing and adding skips on hundreds of random networks, against an independent interpreter."""

import collections
import copy

import numpy as np
import pytest
import torch

from search_spaces import Depth, DepthStep, SpaceError, depth_space, trace
from tests.kits import amount
from tests.kits.random_networks import DEEP, RandomNetwork, Reference, agree, assert_costs, masked, random_levels

NETWORKS = amount.of(120, 80)
CHUNKS = 2


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_rebuilt_computes_what_was_meant_and_costs_what_was_predicted(chunk):
    torch.set_num_threads(1)
    seen: collections.Counter = collections.Counter()
    for seed in range(chunk, NETWORKS, CHUNKS):
        check(seed, seen)
    assert min(seen[what] for what in ("branch", "run", "skip", "inactive")) >= 10, seen


def check(seed, seen):
    model = RandomNetwork(seed, DEEP)
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 3, 8, 8, generator=generator)
    try:
        space = depth_space(model, (x,), min_keep=0.01, skips=True, max_skips=2)
    except SpaceError as error:
        assert "nothing to search" in str(error)
        return
    y = torch.randn(3, 3, 8, 8, generator=generator)
    choices = [np.array(list(random_levels(space, rng).values())) for _ in range(2)]
    for levels in choices:
        levels[: len(space.operator(Depth).blocks)] |= rng.random(len(space.operator(Depth).blocks)) < 0.5
    for levels in (*choices, space.narrowest):
        point = space.point(levels.tolist())
        plan = space.plan(point, {group.name: rng.random(group.size) for group in space.groups})
        small = space.build(plan)
        kinds = {block.name: block.kind for block in space.operator(Depth).blocks}
        seen.update([kinds[name] for name in plan.get(DepthStep).removed] + ["skip"] * len(plan.get(DepthStep).skips))
        seen["inactive"] += int((~space.active(levels)).sum())

        reference = Reference(space, masked(space.original, space.basis.recorded, plan).double(), plan)
        given = y.double()
        with torch.no_grad():
            expected, got = reference.run(y.double()), copy.deepcopy(small).double()(given)
        assert (given == y).all(), f"seed {seed}: the input was changed"
        assert agree(got, expected), f"seed {seed}: {got} for {expected}, {plan}"

        assert_costs(space, point, small, y, seed)
        assert set(space.slices(plan)) <= {name for name, _ in small.named_modules()}
        rows = space.sequence(point)
        assert rows.dtype == np.float32 and rows.min() >= 0 and rows.max() <= 1


def test_names_of_blocks_survive_recording_again():
    """A plan is replayed on a network that is recorded anew, from the recorded one or from the user's."""
    for seed in range(40):
        model = RandomNetwork(seed, DEEP)
        x = torch.randn(2, 3, 8, 8)
        try:
            space = depth_space(model, (x,), skips=True)
        except SpaceError:
            continue
        again = depth_space(trace(space.original, (x,)), (x,), skips=True)
        assert again.knobs == space.knobs
