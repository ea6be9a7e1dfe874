"""Trials of a space of depth: layers that remain make up for those that are gone, as far as the fit is told to."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from automl.config.evaluation import EvaluationOptions
from automl.config.latency import LatencyOptions
from automl.errors import ConfigError
from automl.evaluation import Evaluator
from automl.fit.block_errors import PART, block_errors
from automl.fit.distance import SAMPLES
from automl.measures.latency_model import measure_latency_table
from search_spaces import Depth, NetworkSpace, depth_space
from tests.evaluation.test_sequential import loss_of


@pytest.fixture(scope="module")
def space(problem):
    return depth_space(problem.model, problem.example_inputs, skips=True)


def chosen(space, **levels):
    """The Point of the original but for some knobs, `_` in their names for what no identifier has."""
    point = space.original_levels
    for name, level in levels.items():
        point[[knob.name.replace(":", "_").replace(">", "_") for knob in space.knobs].index(name)] = level
    return space.point(point.tolist())


def network_of(problem, space, point, how):
    options = EvaluationOptions(reconstruction=how, precision="float32", recalibration="none")
    return Evaluator(problem, space, options, threads=1).network(point)


def test_the_original_point_is_the_original(problem, space):
    evaluator = Evaluator(problem, space, threads=1)
    network = evaluator.network(space.original_point)
    (x,), _ = problem.validation[0]
    with torch.no_grad():
        assert torch.equal(network(x), space.original.eval()(x))


def test_widths_and_blocks_have_error_curves_and_skips_none(problem, space):
    curves = Evaluator(problem, space, threads=1).sensitivity()
    assert set(curves) == {knob.name for knob in space.knobs if knob.kind in ("amount", "gate")}
    for knob in space.knobs:
        if knob.name in curves:
            curve = curves[knob.name]
            assert curve.shape == (len(knob.levels),) and curve[-1] == 0 and (np.diff(curve) <= 0).all()


def test_a_block_costs_twice_the_divergence_of_the_network_without_it(problem):
    space = NetworkSpace(problem.model, problem.example_inputs, {"depth": None})
    evaluator = Evaluator(problem, space, threads=1)
    curves = evaluator.sensitivity()
    x = torch.cat([inputs[0] for inputs, _ in problem.validation])[:SAMPLES]
    with torch.no_grad():
        theirs = F.log_softmax(space.original.eval()(x), 1)
        factors = []
        for knob in space.knobs:
            without = evaluator.network(chosen(space, **{knob.name.replace(":", "_"): 0}))
            ours = F.log_softmax(without(x), 1)
            divergence = (theirs.exp() * (theirs - ours)).sum(1).mean()
            factors.append(curves[knob.name][0] / (2 * divergence.item()))
    assert min(factors) >= 0.999 and factors == pytest.approx([factors[0]] * len(factors), rel=1e-3)


def test_errors_of_blocks_are_scaled_by_what_the_least_cost_together(space):
    """Of a loss that goes with the square of how many are gone, m blocks cost m times the sum of each."""
    gates = [place for place, knob in enumerate(space.knobs) if knob.kind == "gate"]
    gone = lambda point: sum(point[space.knobs[place].name] == 0 for place in gates)  # noqa: E731
    least = max(2, len(gates) // PART)
    curves = block_errors(space, [], lambda point: 0.01 * gone(point) ** 2)
    assert {name: curve[0] for name, curve in curves.items()} == {
        space.knobs[place].name: pytest.approx(0.02 * least) for place in gates
    }
    smaller = block_errors(space, [], lambda point: 0.01 * gone(point) ** 0.5)  # less than their sum: as they are
    assert all(curve[0] == pytest.approx(0.02) for curve in smaller.values())


def test_no_block_has_a_curve_where_outputs_cannot_be_compared(space):
    assert block_errors(space, [], None) == {}


def test_a_block_without_which_nothing_is_finite_is_the_dearest(space):
    gates = [knob.name for knob in space.knobs if knob.kind == "gate"]
    errors = iter([float("nan"), *(0.1 * i for i in range(1, len(gates))), 0.2])
    curves = block_errors(space, [], lambda point: next(errors))
    assert curves[gates[0]][0] == max(curve[0] for curve in curves.values()) > 0


@pytest.mark.parametrize("block", ["conv1", "depthwise"])
def test_what_remains_makes_up_for_a_removed_block(problem, space, block):
    """Behind `conv1` remains a projection, which is to make the whole sum; after `depthwise` the linear layer."""
    point = chosen(space, **{f"block_{block}": 0})
    losses = {
        how: loss_of(network_of(problem, space, point, how), problem.validation) for how in ("none", "sequential")
    }
    original = loss_of(space.original.eval(), problem.validation)
    assert losses["sequential"] - original < 0.5 * (losses["none"] - original), (original, losses)


def test_the_projection_that_remains_is_fitted_to_the_sum(problem, space):
    x = torch.cat([inputs[0] for inputs, _ in problem.calibration])

    def added(network, *names):
        seen = []
        hooks = [
            network.get_submodule(name).register_forward_hook(lambda layer, args, out: seen.append(out.clone()))
            for name in names
        ]
        with torch.no_grad():
            network(x)
        for hook in hooks:
            hook.remove()
        return sum(seen)

    original, point = added(space.original.eval(), "norm2", "down_norm"), chosen(space, block_conv1=0)
    missed = {
        how: float((added(network_of(problem, space, point, how), "down_norm") - original).square().mean())
        for how in ("none", "sequential")
    }
    with torch.no_grad():
        stem = F.relu(added(space.original, "norm"))[:, :, ::2, ::2]  # what the projection reads
    rows = torch.cat([stem, torch.ones_like(stem[:, :1])], 1).movedim(1, -1).flatten(0, 2)
    sums = original.movedim(1, -1).flatten(0, 2)
    best = float((rows @ torch.linalg.lstsq(rows, sums).solution - sums).square().mean())
    assert best < missed["sequential"] < 1.05 * best < missed["none"], (best, missed)


def test_a_skip_costs_little_where_the_layer_is_refitted(problem):
    """The sum is what the layer made alone: less the skip, which is known before the layer runs."""
    plain = depth_space(Plain().eval(), problem.example_inputs, skips=True)
    assert [(a.name, b.name) for a, b in plain.operator(Depth).skips] == [("b", "b"), ("c", "c")]
    x = torch.cat([inputs[0] for inputs, _ in problem.calibration])
    with torch.no_grad():
        target = plain.original(x)
        difference = {
            how: float(
                (network_of(problem, plain, chosen(plain, skip_b_b=1, skip_c_c=1), how)(x) - target).square().mean()
            )
            for how in ("none", "sequential")
        }
    assert difference["sequential"] < 0.05 * difference["none"]


class Plain(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (torch.nn.Conv2d(n, 8, 3, padding=1) for n in (1, 8, 8))
        self.linear = torch.nn.Linear(8, 10)

    def forward(self, x):
        return self.linear(F.relu(self.c(F.relu(self.b(F.relu(self.a(x)))))).mean((2, 3)))


def test_trials_and_finals_of_random_points(problem, space):
    evaluator = Evaluator(problem, space, threads=1)
    finisher = evaluator.finishing()
    for seed in range(4):
        rng = torch.Generator().manual_seed(seed)
        levels = [knob.levels[int(torch.randint(len(knob.levels), (1,), generator=rng))] for knob in space.knobs]
        point = space.point(levels)
        outcome = evaluator(point)
        assert outcome.state == "done", outcome.reason
        counted = {m.metric: m.value for m in finisher.certify(finisher.network(point))}
        predicted = {m.metric: m.value for m in outcome.measurements if m.metric in counted}
        assert predicted["macs"] == counted["macs"] and predicted["params"] == counted["params"]
        assert predicted["size_bytes"] >= counted["size_bytes"]


@pytest.mark.parametrize("importance", ["taylor", "activation", "magnitude"])
def test_every_importance_ranks_the_channels_of_tied_runs(problem, importance):
    options = EvaluationOptions(importance=importance, reconstruction="least_squares")
    space = depth_space(Plain().eval(), problem.example_inputs)
    outcome = Evaluator(problem, space, options, threads=1)(chosen(space, a=4, block_b=0))
    assert outcome.state == "done", outcome.reason


def test_a_latency_table_refuses_to_price_removal(problem, space):
    with pytest.raises(ConfigError, match="prices the widths of groups"):
        measure_latency_table(space, problem.example_inputs, LatencyOptions())
