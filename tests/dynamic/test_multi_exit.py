"""Exits in any network: the whole computes what it did, early leaving what the exits say, and budgets are kept."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from automl import zoo
from automl.config.training import TrainingOptions
from automl.dynamic.multi_exit import ExitsLoss, multi_exit
from automl.dynamic.places import chosen, places
from automl.dynamic.thresholds import (
    NEVER,
    Answers,
    answers,
    chosen_by,
    curve,
    dominated,
    fixed,
    front,
    leaving,
    outcome,
    parts_leaving,
    thresholds_for,
)
from automl.errors import BudgetError, ConfigError
from automl.measures import count_macs
from automl.training.trainer import train
from automl.zoo.resnet import ResNet
from search_spaces import Recorded, trace
from tests.kits.digits import digits, train_batches
from tests.kits.random_networks import EVERY, RandomNetwork

X = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def small(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ResNet(1, 10, 1)


def with_exits(**options):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return multi_exit(small(), (X,), **options)


def test_exits_are_spread_over_the_cost():
    recorded = Recorded(trace(zoo.create("resnet20"), (torch.zeros(2, 3, 32, 32),)))
    found = places(recorded)
    assert [place.node for place in found] == ["relu", *(f"relu_{2 * i}" for i in range(1, 9))]
    assert [place.channels for place in found] == [16] * 4 + [32] * 3 + [64] * 2 and {p.dim for p in found} == {1}
    assert [place.node for place in chosen(recorded, 2)] == ["relu_6", "relu_12"]
    assert [place.node for place in chosen(recorded, ["relu_2", 0.9])] == ["relu_2", "relu_16"]


@pytest.mark.parametrize("exits", [0, 12, ["nothing"], [0.3, 0.31]])
def test_exits_that_cannot_be_are_refused(exits):
    with pytest.raises(ConfigError, match=r"relu \(1%\), relu_2 \(41%\)"):
        multi_exit(small(), (X,), exits)


def test_networks_without_class_scores_are_refused():
    with pytest.raises(ConfigError, match="class scores"):
        multi_exit(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)), (X,), 1)


@pytest.mark.parametrize("seed", range(10))
def test_the_last_exit_of_any_network_is_its_own_output(seed):
    network = RandomNetwork(seed, EVERY).double()
    x = torch.randn(3, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    try:
        made = multi_exit(network, (x,), 1, hidden=seed % 2 * 5).double().eval()
    except ConfigError as error:
        assert "no place" in str(error) or "class scores" in str(error), error
        return
    with torch.no_grad():
        first, last = made(x)
        torch.testing.assert_close(last, trace(network, (x,))(x), atol=0, rtol=0)
        assert torch.equal(made.until(0)(x), first) and torch.equal(made.until(1)(x), last)
        for n in (1, 5):
            assert made(x.repeat(2, 1, 1, 1)[:n])[0].shape == first[:1].expand(n, -1).shape


@pytest.mark.parametrize("hidden", [0, 7])
def test_what_leaves_early_leaves_with_what_the_exit_says(hidden):
    made = with_exits(hidden=hidden).double().eval()
    scores = torch.stack(made(X.double()))
    confidence = scores.softmax(2).amax(2).detach()
    first = float(confidence[0].sort(descending=True).values[1])
    thresholds = [first, float(confidence[1, confidence[0] < first].median())]
    found, exits = made.early(thresholds, X.double())
    assert torch.equal(exits, leaving(confidence, thresholds)) and set(exits.tolist()) == {0, 1, 2}
    torch.testing.assert_close(found, scores.gather(0, exits[None, :, None].expand(1, -1, 10))[0])
    assert made.early([0.0, 0.0], X.double())[1].tolist() == [0] * 6
    with pytest.raises(ConfigError, match="a threshold for each of 2 exits, got 1"):
        made.early([0.5], X.double())


def test_costs_count_every_head_that_is_passed():
    made, x = with_exits(), X[:2]
    one = count_macs(made.until(0), (x,))
    first, middle, last = made.costs(x)
    assert first == one and last == count_macs(small(), (x,)) + 16 * 10 + 32 * 10
    assert count_macs(made.until(1), (x,)) == middle - 16 * 10


def test_the_loss_is_the_weighted_sum_of_the_exits():
    made, y = with_exits().eval(), torch.arange(6)
    each = torch.stack([F.cross_entropy(out, y) for out in made(X)])
    torch.testing.assert_close(ExitsLoss(F.cross_entropy)(made, (X,), y), each.sum())
    torch.testing.assert_close(ExitsLoss(F.cross_entropy, (0.5, 0.5, 0.5))(made, (X,), y), each.sum() / 2)
    torch.testing.assert_close(ExitsLoss(F.cross_entropy, (0, 2, 1))(made, (X,), y), 2 * each[1] + each[2])
    for wrong in ((-1, 1, 1), (0, 0, 0)):
        with pytest.raises(ConfigError):
            ExitsLoss(F.cross_entropy, wrong)
    with pytest.raises(ConfigError, match="3 exits"):
        ExitsLoss(F.cross_entropy, (1, 1))(made, (X,), y)


def test_it_trains_goes_on_after_a_kill_and_easy_samples_leave_early(tmp_path):
    options = TrainingOptions(epochs=4, samples=480, learning_rate=0.1, precision="float32", channels_last=True)
    whole, loss = with_exits(hidden=16), ExitsLoss(F.cross_entropy)
    train(whole, train_batches, loss, options)
    for until in (2, 4):
        cut = with_exits(hidden=16)
        train(cut, train_batches, loss, options, until=until, checkpoint=tmp_path / "checkpoint")
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), cut.parameters(), strict=True))
    x, y = digits()
    chosen_on, said = (answers(whole, [((x[part],), y[part])]) for part in (slice(1200, 1500), slice(1500, 1797)))
    costs = whole.costs(X[:2])
    alone = fixed(said, costs)
    assert alone[2].right > 0.85, "it has learnt something"
    half = outcome(said, costs, thresholds_for(chosen_on.confidence, costs, (costs[0] + costs[2]) / 2))
    early = leaving(said.confidence, half.thresholds) < 2
    assert said.right[2][early].double().mean() > said.right[2][~early].double().mean(), "what stays is harder"
    assert half.mean_cost < 0.9 * costs[2]
    course = curve(chosen_on, said, costs, points=5)
    assert [one.shares[0] == 1 for one in course] == [True, *[False] * 4] and course[-1].shares[2] == 1
    assert course[-1].right == alone[2].right and course[0].right == alone[0].right


@given(st.lists(st.floats(0.1, 1.0), min_size=20, max_size=60), st.integers(2, 4), st.floats(0.0, 1.0))
def test_the_budget_is_kept_on_the_samples_that_thresholds_are_chosen_on(numbers, exits, part):
    n = len(numbers) // exits
    confidence = torch.tensor(numbers[: n * exits], dtype=torch.float64).view(exits, n)
    costs = [1.0 + 2.0 * k for k in range(exits)]
    budget = costs[0] + part * (costs[-1] - costs[0])
    said = Answers(confidence, confidence > 0.5)
    found = outcome(said, costs, thresholds_for(confidence, costs, budget))
    assert found.mean_cost <= budget + 1e-9
    assert math.isclose(sum(found.shares), 1.0)


def test_searched_thresholds_are_the_best_of_those_tried_within_the_budget():
    """On random answers: never worse than a fixed exit that the budget allows, nor than a set that was tried."""
    generator = torch.Generator().manual_seed(0)
    confidence = torch.rand(3, 200, generator=generator)
    said = Answers(confidence, torch.rand(3, 200, generator=generator) < confidence)
    costs = [1.0, 2.0, 4.0]
    budgets = [1.0, 1.5, 2.0, 3.0, 4.0]
    found = [outcome(said, costs, one) for one in chosen_by("searched", said, costs, budgets)]
    assert all(one.mean_cost <= budget for one, budget in zip(found, budgets, strict=True))
    assert [one.right for one in found] == sorted(one.right for one in found)
    for one, budget in zip(found, budgets, strict=True):
        allowed = [alone for alone in fixed(said, costs) if alone.mean_cost <= budget]
        assert one.right >= max(alone.right for alone in allowed)
    best = front(said, costs)
    assert best[0].thresholds[0] == 0.0 and not any(dominated(a, [b]) for a, b in pairwise(best))
    with pytest.raises(BudgetError, match="less than the first exit takes"):
        chosen_by("searched", said, costs, [0.5])


def test_the_parts_that_leave_fall_or_rise_by_one_factor():
    for budget in (2.0, 4.0, 6.5):
        parts = parts_leaving([1.0, 3.0, 7.0], budget)
        assert math.isclose(parts[1] ** 2, parts[0] * parts[2], rel_tol=1e-6)
        assert math.isclose(parts[0] + 3 * parts[1] + 7 * parts[2], budget, rel_tol=1e-9)
    assert parts_leaving([1.0, 3.0, 7.0], 8.0) == (0.0, 0.0, 1.0)
    with pytest.raises(BudgetError, match="less than the first exit takes"):
        thresholds_for(torch.rand(3, 10), [1.0, 3.0, 7.0], 0.5)


def test_thresholds_by_hand():
    """Of four samples two leave at the first exit: those of which it is surest."""
    confidence = torch.tensor([[0.9, 0.3, 0.8, 0.2], [0.5, 0.6, 0.7, 0.8]])
    assert thresholds_for(confidence, [1.0, 3.0], 2.0) == pytest.approx((0.8,))
    said = Answers(confidence, torch.tensor([[True, True, False, True], [True, False, True, False]]))
    found = outcome(said, [1.0, 3.0], (0.8,))
    assert (found.right, found.mean_cost, found.shares) == (0.25, 2.0, (0.5, 0.5)) and found.right_at == (0.5, 0.0)
    assert [one.mean_cost for one in fixed(said, [1.0, 3.0])] == [1.0, 3.0]
    assert outcome(said, [1.0, 3.0], (NEVER,)).right == 0.5


def test_what_is_dominated_is_as_dear_and_no_better():
    one = outcome(Answers(torch.ones(1, 2), torch.tensor([[True, False]])), [3.0], ())
    for right, cost, beaten in ((0.5, 3.0, True), (0.6, 2.0, True), (0.6, 3.1, False), (0.4, 2.0, False)):
        assert dominated(one, [replace(one, right=right, mean_cost=cost)]) is beaten


def test_the_original_is_untouched():
    model = small()
    before = copy.deepcopy(model.state_dict())
    made = multi_exit(model, (X,), 1)
    with torch.no_grad():
        next(made.parameters()).zero_()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
