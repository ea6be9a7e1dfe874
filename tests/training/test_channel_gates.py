"""Gates on coupled channels: the gradients of the formula, shut gates as cuts, budgets on what spaces price."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from automl.config.training import TrainingOptions
from automl.training.loss import SupervisedLoss
from automl.training.methods import bernoulli, hard_concrete
from automl.training.methods.base import Course
from automl.training.methods.channel_gates import ChannelGates
from automl.training.methods.coupled import kept_of
from automl.training.methods.expected_cost import ExpectedCost
from automl.training.methods.hard_concrete import open_probability, sampled
from automl.training.trainer import train
from search_spaces import Point, SpaceError, channel_space
from tests.kits.digits import problem, train_batches
from tests.kits.random_networks import EVERY, RandomNetwork, agree, in_double, random_levels

DUAL = {"dual_rate": 0.1, "dropout": 0.05}
KINDS = {
    "hard_concrete": {"gate": hard_concrete, "gate_rate": 0.1, **DUAL},
    "bernoulli": {"gate": bernoulli, "gate_rate": 0.02, "decay": 5e-4, **DUAL},
}
SHARE = {"macs": 0.4, "params": 0.3}


@pytest.fixture(scope="module")
def resnet():
    trained = problem("resnet8")
    return channel_space(trained.model, trained.example_inputs)


def limits(space, shares):
    return {metric: share * space.original_cost(metric) for metric, share in shares.items()}


def gates_of(space, shares, kind="hard_concrete"):
    return ChannelGates(space, ExpectedCost(space, limits(space, shares)), **KINDS[kind])


def course_of(network):
    return Course(network, torch.optim.SGD(network.parameters(), 0.1), 10)


def step(method, course, inputs, targets):
    """The gradients of one step of a method on a batch."""

    def closure():
        course.network.zero_grad()
        loss = F.cross_entropy(course.network(inputs), targets)
        loss.backward()
        return loss.detach()

    method.gradients(course, closure)


def trained(space, method, epochs=2, until=None, checkpoint=None):
    network = copy.deepcopy(space.original)
    options = TrainingOptions(epochs=epochs, learning_rate=0.01, precision="float32", channels_last=False)
    batches = lambda seed: train_batches(seed, 32)  # noqa: E731
    loss = SupervisedLoss(F.cross_entropy, 0.0)
    train(network, batches, loss, options, methods=[method], until=until, checkpoint=checkpoint)
    return network


class Chain(nn.Module):
    """Four channels that a linear layer reads nine entries of each."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.linear = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(36, 3)

    def forward(self, x):
        return self.linear(self.norm(self.conv(x)).relu().flatten(1))


def test_gradients_are_those_of_autograd_with_gates_on_the_channels(monkeypatch):
    """loss(channels z(a)) + lambda sum over groups of slope sum P(z(a) > 0), differentiated as a whole."""
    torch.manual_seed(0)
    space = channel_space(Chain().eval(), (torch.randn(2, 1, 5, 5),))
    network, method = copy.deepcopy(space.original), gates_of(space, {"params": 0.5})
    draws = torch.rand(4).clamp(1e-3, 1 - 1e-3)
    monkeypatch.setattr(hard_concrete, "drawn", lambda gates: sampled(gates, draws))
    course = course_of(network)
    method.begin(course)
    before = copy.deepcopy(network)
    inputs, targets = torch.randn(6, 1, 5, 5), torch.randint(3, (6,))
    step(method, course, inputs, targets)
    gates = method._gates.detach().clone().requires_grad_()
    channels = before.norm(before.conv(inputs)).relu() * sampled(gates, draws).view(1, 4, 1, 1)
    slope = (space.cost_of_levels(np.array([4]), "params") - space.cost_of_levels(np.array([3]), "params")) / (
        space.original_cost("params")
    )
    price = method.multipliers[0] * slope * open_probability(gates).sum()
    (F.cross_entropy(before.linear(channels.flatten(1)), targets) + price).backward()
    assert method.multipliers[0] > 0
    for (name, ours), theirs in zip(network.named_parameters(), before.parameters(), strict=True):
        assert torch.equal(ours, theirs), name
        torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(method._gates.grad, gates.grad)


def test_bernoulli_gates_have_the_slope_of_the_loss_and_pay_for_their_weights(monkeypatch):
    """At the draw xi: d loss / d xi_j + lambda slope + decay / 2 |w_j|^2, of the weights that make or read j."""
    torch.manual_seed(0)
    space = channel_space(Chain().eval(), (torch.randn(2, 1, 5, 5),))
    network, method = copy.deepcopy(space.original), gates_of(space, {"params": 0.5}, "bernoulli")
    course = course_of(network)
    method.begin(course)
    before = copy.deepcopy(network)
    inputs, targets = torch.randn(6, 1, 5, 5), torch.randint(3, (6,))
    xi = torch.tensor([1.0, 0.0, 1.0, 1.0])
    monkeypatch.setattr(torch, "bernoulli", lambda probability: xi)
    step(method, course, inputs, targets)
    z = xi.clone().requires_grad_()
    channels = before.norm(before.conv(inputs)).relu() * z.view(1, 4, 1, 1)
    F.cross_entropy(before.linear(channels.flatten(1)), targets).backward()
    slope = (space.cost_of_levels(np.array([4]), "params") - space.cost_of_levels(np.array([3]), "params")) / (
        space.original_cost("params")
    )
    squares = before.conv.weight.square().sum((1, 2, 3)) + before.linear.weight.square().view(3, 4, 9).sum((0, 2))
    expected = z.grad + method.multipliers[0] * slope + 5e-4 / 2 * squares.detach()
    assert method.multipliers[0] > 0
    torch.testing.assert_close(method._gates.grad, expected.float())
    assert not network.linear.weight.grad.view(3, 4, 9)[:, 1].any(), "what a shut gate's channel is read by"


def test_a_bernoulli_gate_that_is_hardly_ever_open_is_shut_for_good():
    theta = torch.tensor([0.02, 0.06, 0.7, 1.2], requires_grad=True)
    with torch.no_grad():
        bernoulli.hold(theta)
    assert theta.tolist() == pytest.approx([bernoulli.GONE, 0.06, 0.7, 1.0])
    assert bernoulli.settled(theta.detach()).tolist() == [0, 0, 1, 1]
    assert float(bernoulli.counted(theta.detach()).sum()) == pytest.approx(1.76)
    adam = torch.optim.Adam([theta], 0.1)
    for _ in range(50):
        adam.zero_grad()
        z = bernoulli.drawn(theta)
        assert set(z.tolist()) <= {0.0, 1.0}
        (-z.sum()).backward()  # the more are open the better
        adam.step()
        with torch.no_grad():
            bernoulli.hold(theta)
    assert theta.tolist() == [bernoulli.GONE, 1.0, 1.0, 1.0]


def test_shut_gates_are_channels_cut_away():
    """Of random networks: zeros and ones for gates against the smaller network, where no norm spans channels."""
    tried = 0
    for seed in range(80):
        network = RandomNetwork(seed, EVERY)
        if any(isinstance(module, nn.GroupNorm | nn.LayerNorm) for module in network.modules()):
            continue
        x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
        try:
            space = channel_space(network, (x,), min_keep=0.01)
        except SpaceError:  # every joint was tied into one
            continue
        tried += 1
        method, gated = gates_of(space, {"macs": 0.5}), copy.deepcopy(space.original)
        method.begin(course_of(gated))
        plan = space.plan(Point(random_levels(space, np.random.default_rng(seed))))
        kept = [torch.isin(torch.arange(group.size), torch.tensor(kept_of(group, plan))) for group in space.groups]
        with torch.no_grad():
            method._gates.copy_(torch.where(torch.cat(kept), 10.0, -10.0))
        method.end(gated)
        assert agree(in_double(gated, x), in_double(space.build(plan), x)), f"seed {seed}"
    assert tried >= 10


def test_expected_costs_are_exact_at_widths_and_their_slopes_those_of_products(resnet):
    cost = ExpectedCost(resnet, limits(resnet, SHARE))
    rng = np.random.default_rng(0)
    for _ in range(20):
        widths = np.array([rng.choice(knob.levels[:-1]) for knob in resnet.knobs])
        over, slopes = cost.around(widths.astype(float))
        for i, metric in enumerate(cost.metrics):
            whole = resnet.original_cost(metric)
            at = resnet.cost_of_levels(widths, metric) / whole
            assert over[i] == pytest.approx(at - SHARE[metric])
            for t in range(len(widths)):
                wider = widths + (np.arange(len(widths)) == t)
                assert slopes[i, t] == pytest.approx(resnet.cost_of_levels(wider, metric) / whole - at)


@pytest.mark.parametrize("kind", KINDS)
def test_budgets_on_several_costs_are_met_without_tuning(resnet, kind):
    """Of two limits the tighter is used up to 5 points of the original's cost, and neither exceeded by more than 3.

    How far depends on the last bits of a training, which differ from processor to processor: 3.6 under was seen.
    """
    method = gates_of(resnet, SHARE, kind)
    trained(resnet, method, epochs=12)
    widths = np.array([max(method.widths()[knob.name], knob.levels[0]) for knob in resnet.knobs])
    over = {m: resnet.cost_of_levels(widths, m) / resnet.original_cost(m) - share for m, share in SHARE.items()}
    assert -0.05 <= max(over.values()) <= 0.03


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_that_was_killed_goes_on_to_the_same_gates(resnet, tmp_path, kind):
    whole = gates_of(resnet, SHARE, kind)
    network = trained(resnet, whole)
    trained(resnet, gates_of(resnet, SHARE, kind), until=1, checkpoint=tmp_path / "c")
    resumed = gates_of(resnet, SHARE, kind)
    again = trained(resnet, resumed, checkpoint=tmp_path / "c")
    assert torch.equal(whole._gates, resumed._gates)
    assert whole.multipliers.tolist() == resumed.multipliers.tolist()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
