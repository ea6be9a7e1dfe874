"""Sequential least squares: exact where it can be, better than fits on the original's inputs where it cannot."""

import copy
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from automl.config.evaluation import EvaluationOptions
from automl.evaluation import Evaluator
from automl.fit.blockwise import BlockReconstruction
from automl.fit.layerwise import LayerByLayer
from automl.fit.sequential import THOROUGH, SequentialReconstruction
from search_spaces import channel_space


def loss_of(network, batches):
    with torch.no_grad():
        return sum(float(F.cross_entropy(network(*inputs), targets)) for inputs, targets in batches) / len(batches)


@pytest.fixture(scope="module")
def space(problem):
    return channel_space(problem.model, problem.example_inputs)


def test_a_whole_network_stays_what_it_computes(problem, space):
    """With nothing removed every target is met exactly, through residual sums, in-place steps and odd strides."""
    network = copy.deepcopy(space.original).eval()
    whole = space.slices(space.plan(space.point(space.highest.tolist())))
    SequentialReconstruction(space.original, problem.calibration).apply(network, whole)
    (x,), _ = problem.validation[0]
    with torch.no_grad():
        torch.testing.assert_close(network(x), space.original.eval()(x), rtol=2e-2, atol=2e-2)


def test_it_loses_less_than_fits_on_the_originals_inputs(problem, space):
    limit = 0.3 * space.cost_of_levels(space.highest, "macs")
    point = space.project(np.ones(len(space.knobs)), {"macs": limit})
    losses = {}
    for how in ("none", "least_squares", "sequential"):
        options = EvaluationOptions(reconstruction=how, precision="float32", recalibration="none")
        losses[how] = loss_of(Evaluator(problem, space, options, threads=1).network(point), problem.validation)
    assert losses["sequential"] < 0.8 * losses["least_squares"] < losses["none"]


def test_batch_norms_hold_the_statistics_of_their_new_inputs(problem, space):
    """So that a network goes on training from where it is: in train mode it computes the same, up to the batch."""
    options = EvaluationOptions(reconstruction="sequential", precision="float32")
    point = space.point([knob.nearest(0.6) for knob in space.knobs])
    network = Evaluator(problem, space, options, threads=1).network(point)
    x = torch.cat([inputs[0] for inputs, _ in problem.calibration])
    seen = {}
    hooks = [
        module.register_forward_pre_hook(lambda module, args: seen.__setitem__(module, args[0]))
        for name, module in network.named_modules()
        if isinstance(module, nn.BatchNorm2d) and name != "depthwise_norm"
    ]
    with torch.no_grad():
        network(x)
    for hook in hooks:
        hook.remove()
    assert len(seen) == 4
    for norm, inputs in seen.items():
        torch.testing.assert_close(norm.running_mean, inputs.mean((0, 2, 3)), rtol=0.1, atol=0.1)
        torch.testing.assert_close(norm.running_var, inputs.var((0, 2, 3)), rtol=0.15, atol=0.05)


def test_finishing_keeps_the_channels_and_needs_no_training(problem, space):
    evaluator = Evaluator(problem, space, threads=1)
    point = space.point([knob.nearest(0.5) for knob in space.knobs])
    finisher = evaluator.finishing()
    assert finisher.plan(point) == evaluator.plan(point)
    assert loss_of(finisher.network(point), problem.validation) < loss_of(evaluator.network(point), problem.validation)
    first, second = (finisher.network(point).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    measured = {m.metric: m.value for m in finisher.measure_validation(finisher.network(point))}
    metrics = ("accuracy", "loss", "divergence", "macs", "params", "size_bytes")
    assert tuple(measured) == metrics


def test_layers_without_bias_or_norm_are_fitted_without_a_shift():
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3, bias=False), nn.ReLU(), nn.Conv2d(8, 4, 3, bias=False), nn.Flatten())
    network = nn.Sequential(*layers).eval()
    x = torch.randn(64, 3, 7, 7)
    space = channel_space(network, (x[:2],))
    point = space.point([4])
    plan = space.plan(point)
    pruned = space.build(plan)
    with torch.no_grad():
        target, before = network(x), pruned(x)
        SequentialReconstruction(space.original, [((x,), torch.zeros(64))]).apply(pruned, space.slices(plan))
        after = pruned(x)
    assert pruned.get_submodule("2").bias is None
    assert (after - target).square().mean() < 0.7 * (before - target).square().mean()


class PerHead(nn.Module):
    """One layer for every head: the heads are channels before it and after it, and rows of it."""

    def __init__(self):
        super().__init__()
        self.a, self.each, self.out = nn.Linear(8, 32), nn.Linear(8, 8), nn.Linear(32, 5)

    def forward(self, x):
        heads = self.a(x).unflatten(2, (4, 8)).transpose(1, 2)  # [n, heads, tokens, width]
        return self.out(self.each(heads).relu().transpose(1, 2).flatten(2)).mean(1)


class Mixed(nn.Module):
    """Tokens are mixed by layers for which channels are rows, with a shortcut around them."""

    def __init__(self):
        super().__init__()
        self.embed, self.up, self.down, self.head = (
            nn.Linear(8, 24),
            nn.Linear(6, 20),
            nn.Linear(20, 6),
            nn.Linear(24, 5),
        )

    def forward(self, x):
        x = self.embed(x).transpose(1, 2)
        return self.head((x + self.down(self.up(x).relu())).mean(2))


class Merged(nn.Module):
    """Every channel is an image of its own for a while, so that channels are part of a layer's batch."""

    def __init__(self):
        super().__init__()
        self.stem, self.shared, self.head = nn.Linear(8, 16), nn.Conv2d(1, 1, (3, 1), padding=(1, 0)), nn.Linear(16, 5)

    def forward(self, x):
        x = self.stem(x).transpose(1, 2)
        y = self.shared(x.flatten(0, 1)[:, None, :, None]).view(x.shape)
        return self.head((x + y).relu().mean(2))


def refitted(model, reconstruct, keep):
    """What the original puts out, and what the network cut does before and after; and the network, and its plan."""
    torch.manual_seed(0)
    network, x = model().eval(), torch.randn(70, 6, 8)
    space = channel_space(network, (x[:2],))
    plan = space.plan(space.point([keep.get(knob.name, knob.size) for knob in space.knobs]))
    pruned = space.build(plan)
    with torch.no_grad():
        before = pruned(x)
    reconstruct(space.original, [((x,), torch.zeros(70))]).apply(pruned, space.slices(plan))
    with torch.no_grad():
        return network(x), before, pruned(x), pruned, space


@pytest.mark.parametrize("rows", [40, 20_000], ids=["few positions", "all positions"])
def test_rows_that_went_are_left_out_of_a_fit(rows):
    """Heads go, and what the others are given stays as it was: the layer that all share is right as it is."""
    effort = replace(THOROUGH, rows=rows, rows_a_feature=1)
    *_, pruned, space = refitted(PerHead, partial(SequentialReconstruction, effort=effort), {"a:heads": 2})
    for name in ("each.weight", "each.bias"):
        torch.testing.assert_close(pruned.get_parameter(name), space.original.get_parameter(name), rtol=0, atol=1e-3)


def tuned(original, batches):
    refit = LayerByLayer(SequentialReconstruction(original, batches))
    return BlockReconstruction(original, batches, refit, steps=60)


@pytest.mark.parametrize("reconstruct", [SequentialReconstruction, tuned], ids=["layers", "blocks"])
@pytest.mark.parametrize(
    ("model", "keep"),
    [(PerHead, {"a:heads": 3, "a": 6}), (Mixed, {"embed": 16, "up": 12}), (Merged, {"stem": 10})],
    ids=["heads", "tokens", "batch"],
)
def test_layers_for_which_channels_are_rows_are_fitted_too(reconstruct, model, keep):
    wanted, before, after, *_ = refitted(model, reconstruct, keep)
    assert (after - wanted).square().mean() < 0.8 * (before - wanted).square().mean()
