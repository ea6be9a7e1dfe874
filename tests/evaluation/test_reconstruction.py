import cloudpickle
import numpy as np
import pytest
import torch
from torch import nn

from automl.fit.gram import gather_grams
from automl.fit.reconstruction import Reconstruction
from search_spaces import ChannelsStep, Plan, channel_space
from search_spaces.graph.lone_norms import lone_norms

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(64, 3, 8, 8, generator=GENERATOR)
BATCHES = [((X,), torch.zeros(64))]


def eased(network):
    """Batch norms with statistics and weights of their own, eval mode."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.weight, module.running_var):
                    tensor.uniform_(0.5, 1.5)
                for tensor in (module.bias, module.running_mean):
                    tensor.uniform_(-0.5, 0.5)
    return network.eval()


def with_redundant_channels(*tail, bias=False):
    """Channels 4 to 7 of the first convolution are constant or repeat channels 0 to 2."""
    first = nn.Conv2d(3, 8, 3, padding=1)
    with torch.no_grad():
        first.weight[4:7] = first.weight[:3]
        first.bias[4:7] = first.bias[:3]
        first.weight[7], first.bias[7] = 0, 2
    return eased(nn.Sequential(first, nn.ReLU(), nn.Conv2d(8, 6, 3, bias=bias, padding=0), *tail))


def error(got, expected):
    """Root mean square error, relative to the standard deviation of what is expected."""
    return ((got - expected).square().mean().sqrt() / expected.std()).item()


def rebuilt(network, keep):
    """The space, and the network that keeps the channels `keep` of group "0", refitted."""
    space = channel_space(network, (X[:2],))
    grams = gather_grams(space.original, [n for n in space.slices(Plan()) if n != "0"], BATCHES, rows=10**6)
    plan = Plan((ChannelsStep({"0": tuple(keep)}),))
    small = space.build(plan).eval()
    Reconstruction(space.original, grams).apply(small, space.slices(plan))
    return space, small


@pytest.mark.parametrize(
    ("bias", "tail"),
    [
        (True, ()),
        (False, (nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 1))),
        (True, (nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 1))),
        (True, (nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 10))),
    ],
    ids=["bias", "batch norm", "bias and batch norm", "flatten"],
)
def test_redundant_channels_are_removed_without_a_trace(bias, tail):
    """The constant channel needs the intercept, in the bias or in the running mean of the batch norm."""
    network = with_redundant_channels(*tail, bias=bias)
    space, small = rebuilt(network, [0, 1, 2, 3])
    plain = space.build(Plan((ChannelsStep({"0": (0, 1, 2, 3)}),))).eval()
    assert error(small(X), network(X)) < 0.02
    assert error(plain(X), network(X)) > 0.2


def test_without_bias_or_batch_norm_there_is_no_intercept():
    network = with_redundant_channels(nn.ReLU())
    _, small = rebuilt(network, [0, 1, 2, 3])
    assert error(small(X), network(X)) > 0.1  # a constant cannot be expressed
    _, small = rebuilt(network, [0, 1, 2, 3, 7])
    assert error(small(X), network(X)) < 0.02


def test_outputs_that_were_removed_are_left_out():
    network = with_redundant_channels(nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 1))
    space = channel_space(network, (X[:2],))
    grams = gather_grams(space.original, ["2", "5"], BATCHES, rows=10**6)
    plan = Plan((ChannelsStep({"0": (0, 1, 2, 3), "2": (1, 4)}),))
    small = space.build(plan).eval()
    Reconstruction(space.original, grams).apply(small, space.slices(plan))
    expected = network[:4](X)[:, [1, 4]]
    got = small.get_submodule("3")(small.get_submodule("2")(small.get_submodule("0")(X).relu()))
    assert error(got, expected) < 0.02


def test_grouped_convolution_is_refitted_group_by_group():
    first = nn.Conv2d(3, 8, 3)
    with torch.no_grad():
        for base in (0, 4):
            first.weight[base + 2 : base + 4] = 0.5 * first.weight[base : base + 2]
            first.bias[base + 2 : base + 4] = 0.5 * first.bias[base : base + 2]
    network = nn.Sequential(first, nn.ReLU(), nn.Conv2d(8, 6, 3, groups=2)).eval()
    space = channel_space(network, (X[:2],))
    grams = gather_grams(space.original, ["2"], BATCHES, rows=10**6)
    assert grams["2"].matrix.shape == (2, 37, 37)
    point = space.point([knob.levels[len(knob.levels) // 2] for knob in space.knobs])
    kept = {group.name: np.zeros(group.size) for group in space.groups}
    for name, scores in kept.items():
        scores[: point[name]] = 1
    plan = space.plan(point, kept)
    small = space.build(plan).eval()
    slices = space.slices(plan)
    assert 0 < len(slices["2"].kept_in) < 8
    expected = network(X)[:, slices["2"].kept_out]
    assert error(small(X), expected) > 0.2
    Reconstruction(space.original, grams).apply(small, slices)
    assert error(small(X), expected) < 0.02


def test_the_original_is_untouched_and_repeats_are_exact():
    network = with_redundant_channels(nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 1))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    space = channel_space(network, (X[:2],))
    grams = gather_grams(space.original, ["2"], BATCHES)
    plan = Plan((ChannelsStep({"0": (0, 3, 5)}),))
    reconstruction = Reconstruction(space.original, grams)
    results = []
    for again in (reconstruction, reconstruction, cloudpickle.loads(cloudpickle.dumps(reconstruction))):
        small = space.build(plan).eval()
        again.apply(small, space.slices(plan))
        results.append(small(X))
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])
    for state in (network.state_dict(), space.original.state_dict()):
        assert all(torch.equal(state[name], tensor) for name, tensor in before.items())


def test_cache_of_solutions_is_bounded(monkeypatch):
    from automl.fit import reconstruction as module

    monkeypatch.setattr(module, "CACHE_BYTES", 2_000)
    network = with_redundant_channels()
    space = channel_space(network, (X[:2],))
    reconstruction = Reconstruction(space.original, gather_grams(space.original, ["2"], BATCHES))
    for first in range(7):
        plan = Plan((ChannelsStep({"0": (first, 7)}),))
        reconstruction.apply(space.build(plan), space.slices(plan))
        assert reconstruction._solved_bytes <= 2_000
    assert 0 < len(reconstruction._solved) < 7


def test_which_batch_norms_can_take_a_shift():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.alone, self.twice, self.shared = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
            self.norm_alone, self.norm_twice, self.norm_shared = (nn.BatchNorm2d(3) for _ in range(3))
            self.stateless = nn.BatchNorm2d(3, track_running_stats=False)
            self.last = nn.Conv2d(3, 3, 1)

        def forward(self, x):
            x = self.norm_alone(self.alone(x))
            y = self.twice(x)
            x = self.norm_twice(y) + y
            x = self.norm_shared(self.shared(self.shared(x)))
            return self.stateless(self.last(x))

    space = channel_space(nn.Sequential(nn.Conv2d(3, 3, 1), Net(), nn.Conv2d(3, 2, 1)), (X[:2],))
    assert lone_norms(space.original) == {"1.alone": "1.norm_alone"}
