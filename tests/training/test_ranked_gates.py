"""Gates in the order of saliency: the gradients of the formula, the cut, three budgets at once."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from automl.training.methods.expected_cost import ExpectedCost
from automl.training.methods.ranked_gates import RankedGates
from search_spaces import OfSheet, Point, channel_space
from search_spaces.pricing.metrics import PEAK
from search_spaces.pricing.peak import peak_memory
from tests.kits.digits import problem
from tests.training.test_channel_gates import DUAL, Chain, course_of, limits, step, trained

SHARE = {"macs": 0.4, "size_bytes": 0.35, PEAK: 0.7}


@pytest.fixture(scope="module")
def resnet():
    made = problem("resnet8")
    space = channel_space(made.model, made.example_inputs)
    space.add_cost(PEAK, OfSheet(peak_memory(space.basis.analysis, space.basis.terms, made.example_inputs)))
    return space


def gates_of(space, shares):
    return RankedGates(space, ExpectedCost(space, limits(space, shares)), gate_rate=0.1, **DUAL)


def test_gradients_are_those_of_autograd_with_gates_on_the_ranked_channels():
    """loss(channels z(w(a))) + lambda slope w(a), differentiated as a whole; norms of channels worked out by hand."""
    torch.manual_seed(0)
    space = channel_space(Chain().eval(), (torch.randn(2, 1, 5, 5),))
    network, method = copy.deepcopy(space.original), gates_of(space, {"params": 0.5})
    course = course_of(network)
    method.begin(course)
    with torch.no_grad():
        method._logits.fill_(0.3)
    before = copy.deepcopy(network)
    inputs, targets = torch.randn(6, 1, 5, 5), torch.randint(3, (6,))
    step(method, course, inputs, targets)
    read = before.linear.weight.view(3, 4, 9).square().sum((0, 2))
    norms = before.conv.weight.square().sum((1, 2, 3)) + read
    ranks = norms.argsort(descending=True).argsort()
    logit = torch.full((), 0.3, requires_grad=True)
    wanted = 4 * logit.sigmoid()  # the ramp is a channel long
    channels = before.norm(before.conv(inputs)).relu() * (wanted - ranks).clamp(0, 1).view(1, 4, 1, 1)
    price = method.multipliers[0] * method._slopes[0, 0] * wanted
    (F.cross_entropy(before.linear(channels.flatten(1)), targets) + price).backward()
    assert method.multipliers[0] > 0 and method._slopes[0, 0] > 0
    for (name, ours), theirs in zip(network.named_parameters(), before.parameters(), strict=True):
        assert torch.equal(ours, theirs), name
        torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(method._logits.grad, logit.grad.view(1))


def test_the_network_at_the_end_is_the_one_that_is_cut(resnet):
    """As many channels of each group as `widths` says, those of the greatest norms: the same outputs in double."""
    method, network = gates_of(resnet, SHARE), copy.deepcopy(resnet.original)
    method.begin(course_of(network))
    with torch.no_grad():
        method._logits.copy_(torch.linspace(-1, 1, len(method._logits)))
    coupled = method._channels.coupled
    scores = coupled.by_group(coupled.squares(network))
    method.end(network)
    plan = resnet.plan(Point(method.widths()), scores)
    x = torch.randn(3, *problem("resnet8").example_inputs[0].shape[1:], dtype=torch.float64)
    torch.testing.assert_close(network.double().eval()(x), resnet.build(plan).double().eval()(x))


def test_three_budgets_are_met_at_once_without_tuning(resnet):
    """Peak memory, bytes and multiply-accumulates by exact cost; no limit exceeded by more than 3 points of the
    original's cost before the widths are brought to it, and the tightest used up to 8."""
    method = gates_of(resnet, SHARE)
    trained(resnet, method, epochs=8)
    widths = [method.widths()[group.name] for group in resnet.groups]
    over = ExpectedCost(resnet, limits(resnet, SHARE)).over(widths)
    assert -0.08 <= over.max() <= 0.03


def test_a_training_that_was_killed_goes_on_to_the_same_widths(resnet, tmp_path):
    whole = gates_of(resnet, SHARE)
    network = trained(resnet, whole)
    trained(resnet, gates_of(resnet, SHARE), until=1, checkpoint=tmp_path / "c")
    resumed = gates_of(resnet, SHARE)
    again = trained(resnet, resumed, checkpoint=tmp_path / "c")
    assert torch.equal(whole._logits, resumed._logits) and torch.equal(whole._ranks, resumed._ranks)
    assert whole.multipliers.tolist() == resumed.multipliers.tolist()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_a_group_that_cannot_shrink_stays_whole():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)
    )
    space = channel_space(network.eval(), (torch.randn(2, 1, 7, 7),), widths={"0": (4,)})
    method = gates_of(space, {"macs": 0.5})
    method.begin(course_of(copy.deepcopy(space.original)))
    with torch.no_grad():
        method._logits.fill_(-5.0)
    method._hold()
    assert method.widths() == {knob.name: knob.levels[0] for knob in space.knobs}
