"""The peak memory of activations as a cost: what it foretells is what the rebuilt network takes, or a little more."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from automl.measures.memory import sample_peak
from search_spaces import NetworkSpace, OfSheet, SpaceError
from search_spaces.pricing.metrics import PEAK
from search_spaces.pricing.peak import peak_memory
from tests.kits.joint_spaces import make_space, random_levels


class Cup(nn.Module):
    """A small U-Net: what is concatenated lives long, and maxima come with indices."""

    def __init__(self):
        super().__init__()
        self.first, self.bottom = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3, padding=1)
        self.widen, self.last = nn.ConvTranspose2d(12, 8, 2, stride=2), nn.Conv2d(16, 2, 3, padding=1)

    def forward(self, x):
        x = F.relu(self.first(x))
        below = F.relu(self.bottom(F.max_pool2d(x, 2)))
        return self.last(torch.cat([x, self.widen(below)], 1))


def priced(space, x):
    space.add_cost(PEAK, OfSheet(peak_memory(space.basis.analysis, space.basis.terms, (x,))))
    return space


def counted(space, levels, x):
    return sample_peak(space.build(space.plan(space.point(levels.tolist()))), (x,))


def test_of_a_u_net_it_is_exact_at_any_widths():
    x = torch.randn(3, 3, 16, 16)
    space, rng = priced(NetworkSpace(Cup(), (x,), {"channels": {}}), x), np.random.default_rng(0)
    assert space.original_cost(PEAK) == sample_peak(space.original, (x,))
    for levels in (space.original_levels, space.lowest, *(random_levels(space, rng) for _ in range(3))):
        assert space.cost_of_levels(levels, PEAK) == counted(space, levels, x)


@pytest.mark.parametrize("names", [("channels",), ("depth", "channels"), ("channels", "sparsity", "code")])
@pytest.mark.parametrize("seed", range(2))
def test_no_rebuilt_network_takes_more_and_a_raise_lowers_nothing(names, seed):
    space, x = make_space(names, seed, depth={"skips": False}, sparsity={"pattern": "unstructured"})
    if space is None:
        return
    priced(space, x)
    rng = np.random.default_rng(seed)
    for _ in range(3):
        levels = space.canonical(random_levels(space, rng))
        cost = space.cost_of_levels(levels, PEAK)
        assert counted(space, levels, x) <= cost
        pairs = zip(space.knobs, levels, strict=True)
        raised = np.array([rng.choice([n for n in knob.levels if n >= level]) for knob, level in pairs])
        assert space.cost_of_levels(space.canonical(raised), PEAK) >= cost


def test_the_wall_holds_several_limits_at_once():
    x = torch.randn(2, 3, 16, 16)
    space, rng = priced(NetworkSpace(Cup(), (x,), {"channels": {}}), x), np.random.default_rng(1)
    limits = {metric: 0.6 * space.original_cost(metric) for metric in (PEAK, "macs", "size_bytes")}
    for _ in range(10):
        point = space.project(rng.random(len(space.knobs)), limits)
        assert all(space.cost(point, metric) <= limit for metric, limit in limits.items())


def test_a_network_of_fixed_batch_size_is_refused():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8 * 36, 2)

        def forward(self, x):
            return self.head(F.relu(self.conv(x)).reshape(2, 8 * 36))

    x = torch.randn(2, 3, 8, 8)
    space = NetworkSpace(Fixed(), (x,), {"channels": {}})
    with pytest.raises(SpaceError, match="does not run on one sample"):
        priced(space, x)
