"""The surgeon's order and errors against what they mean, by brute force."""

import numpy as np
import pytest
import torch
from torch import nn

import automl.fit.samples
from automl.config.evaluation import EvaluationOptions
from automl.evaluation import Evaluator
from automl.fit.fisher import output_fisher
from automl.fit.gram import gather_grams
from automl.fit.sensitivity import sensitivity_curves
from automl.fit.surgeon import eliminate
from automl.tasks.problem import Problem
from search_spaces import Channels, channel_space, trace

X = torch.randn(300, 2, 5, 5, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def space():
    network = nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 2)).eval()
    with torch.no_grad():  # channel 1 is nearly the sum of 0 and 2, so the others can make up for it
        network[0].weight[1] = network[0].weight[0] + network[0].weight[2]
        network[0].bias[:3] = 5.0
        network[0].bias[1] = 10.0
    return channel_space(network, (X[:2],))


def grams_of(space):
    return gather_grams(space.original, ["2"], [((X,), torch.zeros(len(X)))], rows=10**6)


def error_without(space, removed, weights):
    """The weighted squared error of the reader's outputs with its other weights refitted by ordinary least squares."""
    with torch.no_grad():
        hidden = space.original.get_submodule("0")(X).relu()
        rows = nn.functional.unfold(hidden, 2).transpose(1, 2).reshape(-1, 24).double()
        target = rows @ space.original.get_submodule("2").weight.flatten(1).double().T
        kept = [c for c in range(6) if c not in removed]
        features = torch.cat([rows.view(-1, 6, 4)[:, kept].flatten(1), torch.ones(len(rows), 1)], dim=1)
        fitted = features @ torch.linalg.lstsq(features, target, driver="gelsd").solution
        return float(((target - fitted) ** 2).mean(0) @ weights)


def test_errors_are_those_of_least_squares_and_the_order_is_greedy(space):
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=torch.float64)
    found = eliminate(space.operator(Channels), space.groups[0], grams_of(space), {"2": weights})
    removed = []
    for step, channel in enumerate(found.order[:4]):
        by_hand = {c: error_without(space, [*removed, c], weights) for c in range(6) if c not in removed}
        assert by_hand[channel] == pytest.approx(min(by_hand.values()), rel=0.05, abs=1e-3)
        removed.append(int(channel))
        assert found.errors[step + 1] == pytest.approx(by_hand[channel], rel=0.05, abs=1e-3)
    assert found.order[0] in (0, 1, 2), "one of three dependent channels costs next to nothing"
    assert found.errors[1] < 0.05 * found.errors[2]
    assert (np.diff(found.errors) >= 0).all()
    assert sorted(found.order) == list(range(6)) and found.scores[found.order[0]] == 0


def test_a_group_whose_readers_are_unknown_has_no_order(space):
    assert eliminate(space.operator(Channels), space.groups[0], {}, {}) is None
    curves = sensitivity_curves(space.operator(Channels), {space.groups[0].name: None})
    (curve,) = curves.values()
    assert curve[-1] == 0 and (np.diff(curve) < 0).all()


@pytest.mark.parametrize("memory", [None, 5_000])
def test_fisher_predicts_how_the_loss_rises(memory, monkeypatch):
    """A small error in one output raises the divergence by half its Fisher information times the square. It does so
    where memory is for a few samples at a time, too."""
    network = nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.Flatten())
    targets = torch.randint(0, 4, (len(X),))
    network = trace(network, (X,))
    problem = Problem(network.eval(), [((X,), targets)], [((X,), targets)])
    if memory is not None:
        monkeypatch.setattr(automl.fit.samples, "GRAPH_BYTES", memory)
        parts = [len(part) for _, part in automl.fit.samples.differentiable(network, problem.calibration)]
        assert len(parts) > 2 and sum(parts) == len(X)
    fisher = output_fisher(network, ["0", "2"], problem)
    assert fisher["2"].shape == (4,) and fisher["0"].shape == (6,)
    outputs = network(X).detach()
    reference = outputs.log_softmax(1)
    for out in range(4):
        shifted = outputs.clone()
        shifted[:, out] += 0.1 * torch.randn(len(X), generator=torch.Generator().manual_seed(out)).sign()
        risen = nn.functional.kl_div(shifted.log_softmax(1), reference, log_target=True, reduction="batchmean")
        assert float(risen) == pytest.approx(float(fisher["2"][out]) / 2 * 0.01, rel=0.25)
    assert not any(p.grad is not None for p in network.parameters())


def test_curves_are_in_knob_order_and_fall_to_zero(problem):
    space = channel_space(problem.model, problem.example_inputs)
    readers = [name for name, m in space.original.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    grams = gather_grams(space.original, readers, problem.calibration)
    fisher = output_fisher(space.original, list(grams), problem)
    found = {group.name: eliminate(space.operator(Channels), group, grams, fisher) for group in space.groups}
    curves = sensitivity_curves(space.operator(Channels), found)
    for knob in space.knobs:
        assert curves[knob.name].shape == (len(knob.levels),)
        assert curves[knob.name][-1] == 0 and (np.diff(curves[knob.name]) <= 0).all() and curves[knob.name][0] > 0


def test_curves_are_the_same_whatever_picks_the_channels(problem):
    space = channel_space(problem.model, problem.example_inputs)
    first, second = (
        Evaluator(problem, space, EvaluationOptions(importance=importance), threads=1).sensitivity()
        for importance in ("surgeon", "magnitude")
    )
    assert all(np.array_equal(first[knob.name], second[knob.name]) for knob in space.knobs)
