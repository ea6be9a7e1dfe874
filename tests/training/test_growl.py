"""GrOWL's proximal operator against the conditions of its minimum, and what a training by it leaves."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch import nn
from torch.nn import functional as F

from automl.errors import ConfigError
from automl.training.methods.base import Course
from automl.training.methods.growl import OrderedGroupLasso, norms_of, ordered_l1, prox_of_ordered_l1
from search_spaces import channel_space
from tests.kits.digits import accuracy, hard, problem, train


@st.composite
def norms_and_weights(draw, most=40):
    """Norms, some equal and some zero, and weights that descend."""
    norms = draw(st.lists(st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0, 9), min_size=1, max_size=most))
    weights = draw(st.lists(st.floats(0, 4), min_size=len(norms), max_size=len(norms)))
    return np.array(norms), -np.sort(-np.array(weights))


def conditions_of_the_minimum(x, v, weights, size):
    """What is left of Fermat's rule, v - x in the subdifferential at x, by the dual norm: 0 for both at the minimum.

    `size`: of what x and v are, their norms [n], in which order weights apply.
    """
    outside = (np.cumsum(-np.sort(-size(v - x))) - np.cumsum(weights)).max()
    return max(outside, 0.0), abs(float(((v - x) * x).sum()) - ordered_l1(size(x), weights))


@settings(max_examples=300, deadline=None)
@given(norms_and_weights())
def test_the_prox_is_the_minimum(drawn):
    norms, weights = drawn
    found = prox_of_ordered_l1(norms, weights)
    assert found.min() >= 0
    np.testing.assert_allclose(conditions_of_the_minimum(found, norms, weights, np.abs), 0, atol=1e-8)
    sorted_ = found[np.argsort(-norms, kind="stable")]
    assert (np.diff(sorted_) <= 1e-12).all(), "the order is kept"


@settings(max_examples=25, deadline=None)
@given(norms_and_weights(most=3))
def test_no_descent_from_anywhere_finds_a_lower_value(drawn):
    norms, weights = drawn

    def value(x):
        return ((x - norms) ** 2).sum() / 2 + ordered_l1(x, weights)

    least = value(prox_of_ordered_l1(norms, weights))
    for start in (norms, np.zeros_like(norms), norms[::-1] + 0.3):
        assert minimize(value, start, method="Nelder-Mead").fun >= least - 1e-9


def test_equal_weights_are_the_lasso_and_gaps_below_a_step_of_them_are_closed():
    norms = np.array([3.0, 0.2, 1.0])
    np.testing.assert_allclose(prox_of_ordered_l1(norms, np.full(3, 0.5)), [2.5, 0, 0.5])
    tied = prox_of_ordered_l1(np.array([2.0, 2.1, 0.1]), np.array([1.0, 0.5, 0.2]))
    np.testing.assert_allclose(tied, [1.3, 1.3, 0])


class Twins(nn.Module):
    """Two hidden layers, the first of which is read by two layers."""

    def __init__(self):
        super().__init__()
        self.first, self.left, self.right = nn.Linear(6, 5), nn.Linear(5, 3), nn.Linear(5, 3)
        self.last = nn.Linear(3, 4)

    def forward(self, x):
        x = self.first(x).relu()
        return self.last(self.left(x) + self.right(x))


def test_a_step_is_the_prox_of_the_weights_that_read_a_channel_in_all_layers():
    torch.manual_seed(0)
    space = channel_space(Twins(), (torch.randn(2, 6),))
    network = copy.deepcopy(space.original)
    method = OrderedGroupLasso(space, strength=2.0, tying=0.7)
    before = [torch.cat([network.left.weight, network.right.weight]).T.double(), network.last.weight.T.double()]
    penalty = method.penalty(network)
    method.after_step(Course(network, torch.optim.SGD(network.parameters(), 0.2), 10))
    after = [torch.cat([network.left.weight, network.right.weight]).T.double(), network.last.weight.T.double()]
    assert torch.equal(network.first.weight, space.original.first.weight) and (network.left.bias != 0).all()
    total = 0.0
    for v, x, half in zip(before, after, (2, 1), strict=True):  # half: of 5 and of 3 channels, rounded down
        v, x = v.detach().numpy(), x.detach().numpy()
        weights = 2.0 * (1 + 0.7 * np.maximum(1 - np.arange(len(v)) / half, 0))
        size = lambda rows: np.linalg.norm(rows, axis=1)  # noqa: E731
        np.testing.assert_allclose(conditions_of_the_minimum(x, v, 0.2 * weights, size), 0, atol=1e-6)
        total += ordered_l1(size(v), weights)
    assert penalty == pytest.approx(total, rel=1e-6)


@pytest.mark.parametrize("wrong", [{"strength": 0.0}, {"strength": -1.0}, {"tying": -0.1}, {"strength": float("nan")}])
def test_what_makes_no_penalty_is_an_error(wrong):
    with pytest.raises(ConfigError, match="strength above 0 and a tying of at least 0"):
        OrderedGroupLasso(channel_space(Twins(), (torch.randn(2, 6),)), **wrong)


def test_features_that_are_copies_are_read_alike_by_growl_and_not_by_the_lasso():
    """Each hidden unit has two copies; from different weights, the ordered norm makes the norms of copies equal."""
    tied = {}
    for tying in (0.0, 3.0):
        torch.manual_seed(0)
        first = nn.Linear(4, 12, bias=False)
        with torch.no_grad():
            first.weight.copy_(torch.randn(6, 4).repeat_interleave(2, 0))
        space = channel_space(nn.Sequential(first, nn.Tanh(), nn.Linear(12, 2)), (torch.randn(2, 4),))
        network, x = copy.deepcopy(space.original), torch.randn(256, 4)
        y = torch.tanh(x @ torch.randn(4, 2))
        optimizer = torch.optim.SGD(network.get_submodule("2").parameters(), 0.1)
        method = OrderedGroupLasso(space, 0.02, tying)
        for step in range(400):
            optimizer.zero_grad()
            F.mse_loss(network(x), y).backward()
            optimizer.step()
            method.after_step(Course(network, optimizer, 400, step))
        pairs = norms_of(space, network)["0"].reshape(6, 2)
        tied[tying] = int((np.abs(pairs[:, 0] - pairs[:, 1]) < 1e-4 * pairs.max()).sum())
    assert tied[0.0] == 0 and tied[3.0] >= 2, tied  # weights are all equal in the lower half: nothing is tied there


def test_channels_become_exactly_zero_in_training_and_can_go():
    trained = problem("resnet8")
    space = channel_space(trained.model, trained.example_inputs)
    network = copy.deepcopy(space.original)
    train(network, hard, 3, method=OrderedGroupLasso(space, 0.8))
    gone = sum(int((norms == 0).sum()) for norms in norms_of(space, network).values())
    assert gone >= 16 and accuracy(network) > 0.8, (gone, accuracy(network))
