"""Penalties on coupled channels against what their formulas say, written out by hand."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from automl import zoo
from automl.errors import ConfigError
from automl.study.greedy import energies, global_greedy, relative
from automl.training.methods.base import Course
from automl.training.methods.coupled import CoupledChannels
from automl.training.methods.group_decay import GroupSparseDecay
from automl.training.methods.group_lasso import OutInGroupLasso
from automl.training.methods.growing_decay import GrowingDecay
from search_spaces import InfeasibleBudgetError, Point, SpaceError, channel_space
from tests.kits.digits import accuracy, hard, problem, train
from tests.kits.plans import kept_by
from tests.kits.random_networks import RandomNetwork, random_levels


class Chain(nn.Module):
    """A convolution, a norm, and a linear layer that reads four entries of each channel."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.norm = nn.BatchNorm2d(3)
        self.linear = nn.Linear(12, 5)

    def forward(self, x):
        return self.linear(self.norm(self.conv(x)).relu().flatten(1))


@pytest.fixture
def chain():
    torch.manual_seed(0)
    network = Chain()
    nn.init.uniform_(network.norm.weight)
    return channel_space(network, (torch.randn(2, 1, 4, 4),))


@pytest.fixture(scope="module")
def resnet():
    trained = problem("resnet8")
    return channel_space(trained.model, trained.example_inputs)


def own_weights(network, norms=False):
    """What belongs to each channel of `Chain`, as one vector a channel: [3, n]."""
    parts = [network.conv.weight.flatten(1), network.linear.weight.view(5, 3, 4).movedim(1, 0).flatten(1)]
    return torch.cat([*parts, network.norm.weight[:, None]] if norms else parts, dim=1)


def added(regulariser, network, progress=0.0):
    """Parameter -> what a regulariser adds to its gradient."""
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    regulariser.before_step(Course(network, torch.optim.SGD(network.parameters(), 0.1), 1000, round(1000 * progress)))
    return {name: parameter.grad - 1 for name, parameter in network.named_parameters()}


def gradients(penalty, network):
    found = torch.autograd.grad(penalty, list(network.parameters()), allow_unused=True)
    pairs = zip(network.named_parameters(), found, strict=True)
    return {name: torch.zeros_like(p) if g is None else g for (name, p), g in pairs}


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(
            ours[name], theirs[name], rtol=1e-4, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}"
        )


def test_group_lasso_is_the_norm_of_out_and_in_weights_together(chain):
    network = copy.deepcopy(chain.original)
    regulariser = OutInGroupLasso(chain, 0.3)
    by_hand = 0.3 * own_weights(network).norm(dim=1).sum()
    torch.testing.assert_close(regulariser.penalty(network), by_hand)
    assert_same(added(regulariser, network), gradients(by_hand, network))
    np.testing.assert_allclose(energies(chain)["conv"], own_weights(network).square().sum(1).detach(), rtol=1e-5)


def test_a_channel_that_is_gone_adds_nothing(chain):
    network = copy.deepcopy(chain.original)
    with torch.no_grad():
        network.conv.weight[1] = 0
        network.linear.weight[:, 4:8] = 0
    found = added(OutInGroupLasso(chain, 0.3), network)
    assert all(gradient.isfinite().all() for gradient in found.values())
    assert not found["conv.weight"][1].any() and found["conv.weight"][0].any()


def test_a_residual_sum_joins_all_its_layers(resnet):
    """The penalty's own autograd gradient; several makers and readers, padded shortcuts, weights in two groups."""
    network = copy.deepcopy(resnet.original)
    regulariser = OutInGroupLasso(resnet, 0.01)
    assert_same(added(regulariser, network), gradients(regulariser.penalty(network), network))
    channels = CoupledChannels(resnet)
    of_group = {group.name: group for group in resnet.groups}["conv1"]
    weights = [(m.parameter, m.dim) for m in of_group.members if m.role != "along"]
    assert len({name for name, _ in weights}) >= 4
    channel = 5
    by_hand = sum(
        float(network.get_parameter(m.parameter).detach().select(m.dim, int(m.indices[channel, 0])).square().sum())
        for m in of_group.members
        if m.role != "along"
    )
    assert channels.by_group(channels.squares(network))["conv1"][channel] == pytest.approx(by_hand, rel=1e-5)


def test_group_sparse_decay_presses_small_channels_16_times_as_hard(chain):
    network = copy.deepcopy(chain.original)
    squares = own_weights(network, norms=True).square().sum(1)
    gamma = 2 ** (4 * (squares.max() - squares) / (squares.max() - squares.min())).detach()
    assert gamma.min() == 1 and gamma.max() == pytest.approx(16)
    by_hand = 0.02 / 2 * (gamma * squares).sum()
    assert_same(added(GroupSparseDecay(chain, 0.02), network), gradients(by_hand, network))


def test_growing_decay_rises_and_stays_and_leaves_the_kept_alone(chain):
    network = copy.deepcopy(chain.original)
    plan = chain.plan(chain.point([2]))
    (gone,) = {0, 1, 2} - set(kept_by(plan)["conv"])
    regulariser = GrowingDecay(chain, plan, strength=0.5, growth=0.8)
    for progress, grown in ((0.0, 0.0), (0.4, 0.5), (0.8, 1.0), (1.0, 1.0)):
        by_hand = 0.5 * grown / 2 * own_weights(network, norms=True)[gone].square().sum()
        assert_same(added(regulariser, network, progress), gradients(by_hand, network))


def test_channels_of_any_network_keep_their_numbers_and_weights_when_others_are_cut():
    """The small network's sums against those of the same weights in the shape of the original, zeros where cut."""
    compared = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
        try:
            space = channel_space(RandomNetwork(seed).double(), (x.double(),), min_keep=0.01)
        except SpaceError:
            continue
        plan = space.plan(
            Point(random_levels(space, rng)), {group.name: rng.random(group.size) for group in space.groups}
        )
        small = space.build(plan)
        whole, cut = CoupledChannels(space, norms=True), CoupledChannels(space, norms=True, plan=plan)
        squares = cut.squares(small)
        torch.testing.assert_close(squares, whole.squares(space.narrowed(small, plan).original), rtol=1e-9, atol=1e-12)
        for tensor in small.parameters():
            tensor.grad = torch.zeros_like(tensor)
        cut.add_to_gradients(small, factors := torch.from_numpy(rng.random(cut.count)))
        by_hand = gradients((factors * cut.squares(small)).sum() / 2, small)
        assert_same({name: tensor.grad for name, tensor in small.named_parameters()}, by_hand)
        compared += int((squares == 0).any())
    assert compared > 10


@pytest.mark.parametrize("make", [OutInGroupLasso, GroupSparseDecay])
def test_no_strength_is_an_error(chain, make):
    with pytest.raises(ConfigError, match="above 0, got 0"):
        make(chain, 0.0)


def test_relative_scores_compare_groups_of_any_size():
    scores = relative({"a": np.array([1.0, 3.0, 5.0]), "b": np.array([0.1, 0.2]), "c": np.zeros(2)}, top=2)
    np.testing.assert_allclose(scores["a"], [0.25, 0.75, 1.25])
    np.testing.assert_allclose(scores["b"], [0.1 / 0.15, 0.2 / 0.15])
    assert not scores["c"].any()


@pytest.mark.parametrize("options", [{}, {"round_to": 4}, {"steps": 5}], ids=str)
def test_greedy_keeps_the_budget_and_uses_it_up(options):
    trained = problem("resnet8")
    space = channel_space(trained.model, trained.example_inputs, **options)
    whole = space.cost_of_levels(space.highest, "macs")
    rng = np.random.default_rng(0)
    for part in (0.9, 0.5, 0.2):
        scores = {group.name: rng.random(group.size) * rng.random() for group in space.groups}
        limits = {"macs": part * whole}
        point = global_greedy(space, scores, limits)
        levels = space.levels(point)
        assert space.within(levels, limits)
        for t, knob in enumerate(space.knobs):
            if levels[t] < knob.levels[-1]:
                higher = levels.copy()
                higher[t] = knob.levels[knob.levels.index(levels[t]) + 1]
                assert not space.within(higher, limits)


def test_greedy_takes_the_least_of_all_groups_first():
    """With channels of equal cost everywhere it removes exactly the k smallest of the network."""
    torch.manual_seed(0)
    layers = [
        nn.Linear(6, 6, bias=False),
        nn.ReLU(),
        nn.Linear(6, 6, bias=False),
        nn.ReLU(),
        nn.Linear(6, 6, bias=False),
    ]
    space = channel_space(nn.Sequential(*layers), (torch.randn(2, 6),), min_keep=0.01)
    scores = {"0": np.array([1.0, 9, 2, 8, 3, 7]), "2": np.array([1.5, 9.5, 8.5, 7.5, 6.5, 5.5])}
    levels = [4, 5]  # without 1, 1.5 and 2: exactly what this cost buys
    limits = {"macs": space.cost(space.point(levels), "macs")}
    assert space.levels(global_greedy(space, scores, limits)).tolist() == levels
    with pytest.raises(InfeasibleBudgetError):
        global_greedy(space, scores, {"macs": 1.0})
    assert space.levels(global_greedy(space, scores, {})).tolist() == [6, 6]


PARTS = (0.9, 0.8, 0.7, 0.6)
"""Of the MACs: the budgets of the cuts."""


@pytest.fixture(scope="module")
def small():
    """Four spaces of small networks; each with a plan for 60 % of its MACs, and the network trained plainly.

    Four, since how much one network loses by one cut is chance, and another on another processor.
    """
    found = []
    for seed in range(4):
        torch.manual_seed(seed)
        network = zoo.create("small_cnn", width=12)
        train(network, hard, 6)
        space = channel_space(network, problem("small_cnn").example_inputs)
        plan = space.plan(global_greedy(space, energies(space), budget(space, 0.6)), energies(space))
        train(network := copy.deepcopy(space.original), hard, 8)
        found.append((space, plan, network))
    return found


def budget(space, part):
    return {"macs": part * space.cost_of_levels(space.highest, "macs")}


def lost_by_greedy_cuts(space, network):
    """Accuracy that the network loses when its channels of least energy go, on average over `PARTS`."""
    whole = space.narrowed(network, space.plan(space.point(space.highest.tolist())))
    scores = energies(whole)
    plans = [whole.plan(global_greedy(whole, scores, budget(space, part)), scores) for part in PARTS]
    return accuracy(network) - np.mean([accuracy(whole.build(plan)) for plan in plans])


def lost_by_planned_cut(space, plan, network):
    """Accuracy that the network loses when the channels go that were chosen before it was trained."""
    whole = space.plan(space.point(space.highest.tolist()))
    return accuracy(network) - accuracy(space.narrowed(network, whole).build(plan))


@pytest.mark.parametrize(("make", "strength", "networks"), [(OutInGroupLasso, 0.07, 4), (GroupSparseDecay, 0.01, 2)])
def test_a_cut_loses_less_after_regularised_training(small, make, strength, networks):
    """Untuned, a plainly trained network loses 0.30 on average; 0.09 and 0.00 are lost with a regulariser.

    The second spares each of eight networks 0.2 to 0.4, so two are enough.
    """
    spared = []
    for space, _, plain in small[:networks]:
        network = copy.deepcopy(space.original)
        train(network, hard, 8, method=make(space, strength))
        assert accuracy(network) > 0.9
        spared.append(lost_by_greedy_cuts(space, plain) - lost_by_greedy_cuts(space, network))
    assert np.mean(spared) > 0.1, spared


def test_a_cut_of_what_was_pressed_out_loses_next_to_nothing(small):
    """On average 0.02 of the accuracy, at most 0.05, and 0.75 without the regulariser, at least 0.6."""
    pressed, kept = [], []
    for space, plan, plain in small[:2]:
        network = copy.deepcopy(space.original)
        train(network, hard, 8, method=GrowingDecay(space, plan))
        pressed.append(lost_by_planned_cut(space, plan, network))
        kept.append(lost_by_planned_cut(space, plan, plain))
    assert np.mean(pressed) < 0.1 < 0.4 < np.mean(kept), (pressed, kept)
