"""Sparse layers fitted: weights that stay make up for those that went, and curves say how well."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from automl.config.evaluation import EvaluationOptions
from automl.fit.exact_obs import DAMPING
from automl.fit.gram import gather_grams
from automl.fit.moments import damped_cholesky, moments_of
from automl.fit.sparsity import SparsityFitter
from automl.fit.statistics import Moments, Statistics
from automl.tasks.problem import Problem
from search_spaces import Sparsity, SparsityStep, weight_space


class Net(nn.Module):
    """A layer with a norm after it, a grouped one with a bias, one without either, and one used under two names."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.grouped = nn.Conv2d(16, 32, 3, padding=1, groups=2)
        self.mix, self.tied = nn.Linear(32, 32), nn.Linear(32, 32)
        self.tied.weight = self.mix.weight
        self.bare = nn.Linear(32, 12, bias=False)

    def forward(self, x):
        x = F.relu(self.grouped(F.relu(self.norm(self.conv(x))))).mean((2, 3))
        return self.bare(F.relu(self.tied(F.relu(self.mix(x)))))


NAMES = ("conv.weight", "grouped.weight", "mix.weight", "bare.weight")


def options(importance="surgeon", reconstruction="least_squares"):
    return EvaluationOptions(importance=importance, reconstruction=reconstruction)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def batches():
    generator = torch.Generator().manual_seed(1)
    x = 3 * F.avg_pool2d(torch.randn(64, 4, 8, 8, generator=generator), 3, 1) + 0.5  # neighbours are alike
    return [((x,), torch.arange(64) % 12)]


def made(net, x, **more):
    space = weight_space(net, (x,), **more)
    return space, SparsityFitter(space.operator(Sparsity), options())


def known(network, batches, names=("conv", "grouped", "mix", "tied", "bare")):
    return Moments({name: gram.matrix for name, gram in gather_grams(network, names, batches).items()})


@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "1x4"])
@pytest.mark.parametrize("importance", ["surgeon", "activation", "magnitude"])
def test_refitted_weights_come_closer_to_what_each_layer_made(net, batches, pattern, importance):
    space, _ = made(net, batches[0][0][0], pattern=pattern)
    counts = {name: net.get_parameter(name).numel() // 2 for name in NAMES}
    step = SparsityStep(counts, pattern=pattern)
    built = {}
    for reconstruction in ("none", "least_squares"):
        fitter = SparsityFitter(space.operator(Sparsity), options(importance, reconstruction))
        built[reconstruction], _ = fitter.fit(copy.deepcopy(space.original), step, known(net, batches))
    for name in NAMES:
        zeros = [built[key].get_parameter(name) == 0 for key in built]
        assert torch.equal(*zeros) and int((~zeros[0]).sum()) == counts[name]
    inputs = {}
    hooks = [
        net.get_submodule(name).register_forward_pre_hook(lambda layer, args, name=name: inputs.update({name: args[0]}))
        for name in ("conv", "grouped", "bare")
    ]
    with torch.no_grad():
        net(*batches[0][0])
        for hook in hooks:
            hook.remove()
        for name, x in inputs.items():
            target = net.get_submodule(name)(x)
            target = net.norm(target) if name == "conv" else target

            def error(network, name=name, x=x, target=target):
                y = network.get_submodule(name)(x)
                return float(((network.norm(y) if name == "conv" else y) - target).square().mean())

            assert error(built["least_squares"]) < 0.9 * error(built["none"]), name


def test_one_layer_by_itself_is_fitted_by_the_moments_that_are_given(net, batches):
    space, fitter = made(net, batches[0][0][0])
    step = SparsityStep({"grouped.weight": 1000})
    ours = known(net, batches, ["grouped"])
    other = known(net, [((torch.randn(64, 4, 6, 6),), batches[0][1])], ["grouped"])
    first, _ = fitter.fit(copy.deepcopy(space.original), step, ours)
    second, _ = fitter.fit(copy.deepcopy(space.original), step, other)
    again, _ = fitter.fit(copy.deepcopy(space.original), step, ours)
    weights = [network.get_parameter("grouped.weight") for network in (first, second, again)]
    assert torch.equal(weights[0], weights[2]) and not torch.equal(weights[0], weights[1])
    for name, tensor in space.original.state_dict().items():
        if not name.startswith("grouped"):
            assert torch.equal(tensor, first.state_dict()[name])


def test_zeros_stay_zeros_and_a_layer_that_loses_nothing_its_weights(net, batches):
    space, fitter = made(net, batches[0][0][0])
    network = copy.deepcopy(space.original)
    gone = torch.rand(network.conv.weight.shape, generator=torch.Generator().manual_seed(0)) < 0.3
    with torch.no_grad():
        network.conv.weight[gone] = 0
    left = int((~gone).sum())
    for count in (left, left + 20):
        same, _ = fitter.fit(copy.deepcopy(network), SparsityStep({"conv.weight": count}), known(net, batches))
        assert torch.equal(same.conv.weight, network.conv.weight)
        assert torch.equal(same.norm.running_mean, network.norm.running_mean)
    fewer, _ = fitter.fit(copy.deepcopy(network), SparsityStep({"conv.weight": left // 2}), known(net, batches))
    assert int((fewer.conv.weight != 0).sum()) == left // 2 and (fewer.conv.weight[gone] == 0).all()


def test_without_moments_weights_keep_their_values(net, batches):
    space, fitter = made(net, batches[0][0][0])
    network, _ = fitter.fit(copy.deepcopy(space.original), SparsityStep({"mix.weight": 300}), Moments({}))
    stays = network.mix.weight != 0
    assert int(stays.sum()) == 300 and torch.equal(network.mix.weight[stays], net.mix.weight[stays])
    assert network.get_parameter("tied.weight") is network.get_parameter("mix.weight")


@pytest.mark.parametrize("importance", ["surgeon", "magnitude"])
@pytest.mark.parametrize("pattern", ["unstructured", "2:4"])
def test_curves_are_the_weighted_errors_of_the_fit(net, batches, importance, pattern):
    problem = Problem(net, batches, batches, batches)
    space = weight_space(net, problem.example_inputs, pattern=pattern)
    fitter = SparsityFitter(space.operator(Sparsity), options(importance))
    statistics = Statistics(space.original, problem, list(fitter.layers()))
    curves = fitter.curves(statistics, problem)
    moments = statistics.moments(space.basis.recorded.slices(space.basis.recorded.whole))
    for knob in space.knobs:
        layer = knob.name.removesuffix(".weight")
        if layer == "mix":
            continue  # the moments of two layers, added up
        for i in {0, len(knob.levels) // 2}:
            step = SparsityStep({knob.name: knob.levels[i]}, pattern=pattern)
            network, _ = fitter.fit(copy.deepcopy(space.original), step, moments)
            change = (network.get_parameter(knob.name) - net.get_parameter(knob.name)).flatten(1).double()
            matrix, expected = moments.inputs[layer], 0.0
            for rows, costs, gram in zip(
                change.chunk(len(matrix)), moments.importance[layer].chunk(len(matrix)), matrix, strict=True
            ):
                factor = damped_cholesky(moments_of(gram, intercept=layer != "bare")[0], DAMPING)
                expected += float((rows.detach() @ factor).square().sum(1) @ costs)
            assert curves[knob.name][i] == pytest.approx(expected, rel=1e-3)
        assert curves[knob.name][-1] == 0


def test_a_layer_that_was_changed_is_scored_by_weight_times_the_root_mean_square_of_its_inputs(net, batches):
    space, _ = made(net, batches[0][0][0])
    network = copy.deepcopy(space.original)
    with torch.no_grad():
        network.conv.weight.mul_(torch.rand(network.conv.weight.shape, generator=torch.Generator().manual_seed(2)))
    before = network.conv.weight.detach().clone()
    gram = gather_grams(network, ["conv"], batches)["conv"]
    fitter = SparsityFitter(space.operator(Sparsity), options("activation", "none"))
    step, moments = SparsityStep({"conv.weight": 200}), Moments({"conv": gram.matrix})
    kept = fitter.fit(network, step, moments)[0].conv.weight.flatten() != 0
    scores = before.abs().flatten(1).double() * gram.power[0].sqrt()
    expected = torch.zeros_like(kept).index_fill(0, scores.flatten().topk(200).indices, True)
    assert torch.equal(kept, expected)
