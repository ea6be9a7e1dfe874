"""Many networks cut at once come to the levels that each comes to when one knob is cut after the other."""

import numpy as np
import pytest

from agents.moves import cut, cut_all, several_levels, within
from automl.testing.toy_space import ToySpace
from tests.kits.joint_spaces import make_space, random_levels


def one_by_one(space, levels, order, limits):
    for t in order:
        if within(space, levels, limits):
            break
        levels = cut(space, levels, t, limits)
    return levels


def spaces():
    yield ToySpace((8, 16, 24), (1, 2, 1), image=32, min_keep=0.1, step=1)
    yield next(space for space, _ in (make_space(("depth", "channels", "rank"), seed) for seed in range(9)) if space)


@pytest.mark.parametrize("space", list(spaces()), ids=lambda space: type(space).__name__)
def test_levels_are_those_of_one_cut_after_the_other(space):
    rng, free = np.random.default_rng(0), several_levels(space)
    least, whole = (space.cost_of_levels(levels, "macs") for levels in (space.lowest, space.highest))
    rows = np.stack([random_levels(space, rng) for _ in range(30)] + [space.highest, space.lowest])
    orders = np.stack([rng.permutation(free) for _ in rows])
    for share in (0.0, 0.1, 0.4, 0.9, -0.1):  # the last is below what any network costs
        limits = {"macs": least + share * (whole - least)}
        found = cut_all(space, rows, orders, limits)
        alone = [
            one_by_one(space, row.tolist(), order, limits) for row, order in zip(rows, orders.tolist(), strict=True)
        ]
        assert found.tolist() == alone, share
