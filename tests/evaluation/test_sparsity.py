"""Points of a space of weights, evaluated on the trained network of conftest.py."""

from __future__ import annotations

import cloudpickle
import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from agents import Goal, TrialState
from automl.config.evaluation import EvaluationOptions
from automl.errors import BudgetError
from automl.evaluation import Evaluator
from automl.export.packed import pack
from automl.fit.sparsity import input_scales
from search_spaces import NetworkSpace, Plan, Sparsity, SparsityStep, weight_space
from search_spaces.operators.ranking import columns

ACTIVATION = EvaluationOptions(importance="activation", reconstruction="none", precision="float32")
MAGNITUDE = EvaluationOptions(importance="magnitude", reconstruction="none", precision="float32")


@pytest.fixture(scope="module")
def space(problem):
    return weight_space(problem.model, problem.example_inputs, min_keep=0.02)


@pytest.fixture(scope="module")
def evaluator(problem, space):
    return Evaluator(problem, space, ACTIVATION, threads=1, goal=Goal("accuracy", "maximize"))


def at(space, keep):
    """Every tensor at about the same fraction."""
    return space.decode(np.full(len(space.knobs), keep))


def test_costs_are_counted_on_the_network_with_zeros_and_macs_are_those_of_the_dense_one(evaluator, space):
    point = at(space, 0.3)
    outcome = evaluator(point)
    network = evaluator.network(point)
    assert outcome.state is TrialState.DONE
    assert outcome.values["params"] == sum(int(p.count_nonzero()) for p in network.parameters())
    assert outcome.values["params"] == space.cost(point, "params")
    counted = {m.metric: m.value for m in evaluator.counts(network)}
    assert counted["size_bytes"] == len(pack(network)) <= outcome.values["size_bytes"]
    assert counted["params"] == outcome.values["params"]
    whole_point = space.point(space.highest.tolist())
    whole = evaluator(whole_point)
    assert counted["macs"] == evaluator.counts(evaluator.network(whole_point))[0].value
    assert outcome.values["params"] < 0.5 * whole.values["params"]
    assert 0.3 < outcome.values["accuracy"] <= whole.values["accuracy"]


def test_the_original_stays_as_it_is(evaluator, space, problem):
    network = evaluator.network(space.point(space.highest.tolist()))
    state = problem.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_weights_that_stay_keep_their_values_and_batch_norms_are_estimated_anew(evaluator, space, problem):
    network, original = evaluator.network(at(space, 0.2)), problem.model
    for name, parameter in network.named_parameters():
        stays = parameter != 0
        assert torch.equal(parameter[stays], original.get_parameter(name)[stays])
    assert not torch.equal(network.get_buffer("norm2.running_var"), original.norm2.running_var)


def test_the_plan_alone_rebuilds_which_weights_stayed(evaluator, space, problem):
    point = at(space, 0.25)
    plan = Plan.from_json(evaluator.plan(point).to_json())
    elsewhere = weight_space(problem.model, problem.example_inputs)
    replayed, built = elsewhere.build(plan), evaluator.network(point)
    assert all(torch.equal(a, b) for a, b in zip(replayed.parameters(), built.parameters(), strict=True))
    assert len(plan.to_json()) < 5000


def test_a_pickled_evaluator_gives_the_same(evaluator, space):
    evaluator.prepare()
    point = at(space, 0.3)
    assert cloudpickle.loads(cloudpickle.dumps(evaluator))(point).values == evaluator(point).values


def test_activations_choose_better_than_magnitude(problem, space, evaluator):
    # One trained network and fixed seeds: what is compared does not vary from run to run.
    def mean_loss(options):
        judge = Evaluator(problem, space, options, threads=1)
        return np.mean([judge(at(space, keep)).values["loss"] for keep in (0.15, 0.2, 0.25, 0.3)])

    assert mean_loss(ACTIVATION) < mean_loss(MAGNITUDE)


def test_refitted_weights_are_better_and_those_of_the_surgeon_best(problem, space):
    def mean_loss(importance, reconstruction):
        options = EvaluationOptions(importance=importance, reconstruction=reconstruction, precision="float32")
        judge = Evaluator(problem, space, options, threads=1)
        return np.mean([judge(at(space, keep)).values["loss"] for keep in (0.1, 0.15, 0.2, 0.25)])

    magnitude, adaprune, surgeon = (
        mean_loss(*how) for how in (("magnitude", "none"), ("magnitude", "least_squares"), ("surgeon", "least_squares"))
    )
    assert surgeon < adaprune < magnitude


@pytest.mark.parametrize("pattern", ["2:4", "1x4"])
def test_a_pattern_holds_and_is_counted_in_a_joint_space(problem, pattern):
    operators = {"channels": {}, "rank": {}, "sparsity": {"pattern": pattern}, "code": {}}
    space = NetworkSpace(problem.model, problem.example_inputs, operators)
    judge = Evaluator(problem, space, EvaluationOptions(precision="float32"), threads=1)
    for seed in range(3):
        point = space.decode(np.random.default_rng(seed).uniform(0.3, 1, len(space.knobs)))
        network, step = judge.network(point), judge.plan(point).get(SparsityStep)
        counted = sum(int(p.count_nonzero()) for p in network.parameters())
        assert 0.97 * space.cost(point, "params") <= counted <= space.cost(point, "params")  # some are rounded to 0
        for name, count in step.counts.items():
            weight = network.get_parameter(name)
            assert int(weight.count_nonzero()) <= count
            if pattern == "2:4" and count < weight.numel():
                rows = weight.flatten(1)[:, columns(weight)] != 0
                assert all(int(group.sum(1).max()) <= 2 for group in rows.split(4, dim=1))


class TwoInputs(nn.Module):
    """Convolutions along one and two dimensions, and linear layers on matrices and sequences."""

    def __init__(self):
        super().__init__()
        self.image, self.line = nn.Conv2d(4, 16, 3), nn.Conv1d(16, 20, 3)
        self.mix, self.head = nn.Linear(20, 24), nn.Linear(24, 16)

    def forward(self, x):
        x = self.line(self.image(x).flatten(2))
        return self.head(self.mix(x.mT).mean(1))


def test_scales_are_the_root_mean_square_of_each_input_channel():
    model, x = TwoInputs().eval(), torch.randn(6, 4, 6, 6)
    space = weight_space(model, (x[:2],))
    scales = input_scales(space.operator(Sparsity), [((x[:4],), torch.zeros(4)), ((x[4:],), torch.zeros(2))])
    with torch.no_grad():
        line = model.image(x).flatten(2)
        mixed = model.line(line).mT
        expected = {
            "image.weight": x.square().mean((0, 2, 3)).sqrt(),
            "line.weight": line.square().mean((0, 2)).sqrt(),
            "mix.weight": mixed.square().mean((0, 1)).sqrt(),
            "head.weight": model.mix(mixed).mean(1).square().mean(0).sqrt(),
        }
    assert scales.keys() == expected.keys()
    for name, values in expected.items():
        assert scales[name] == pytest.approx(values.numpy(), rel=1e-3)
    assert not model.image._forward_pre_hooks and not space.original.image._forward_pre_hooks


def test_sensitivity_falls_to_zero_and_ranks_networks(evaluator, space):
    curves = evaluator.sensitivity()
    assert curves.keys() == {knob.name for knob in space.knobs}
    for knob in space.knobs:
        assert curves[knob.name].shape == (len(knob.levels),)
        assert curves[knob.name][-1] == 0 and (np.diff(curves[knob.name]) <= 0).all() and curves[knob.name][0] > 0
    rng = np.random.default_rng(0)
    points = [space.decode(rng.uniform(0.05, 1, len(space.knobs))) for _ in range(25)]

    def estimated(point):
        return sum(float(curves[knob.name][knob.levels.index(point[knob.name])]) for knob in space.knobs)

    measured = [evaluator(point).values["divergence"] for point in points]
    assert spearmanr([estimated(point) for point in points], measured).statistic > 0.7


def test_a_network_over_the_budget_is_infeasible_and_is_not_certified(problem, space):
    limits = {"size_bytes": space.cost(at(space, 0.3), "size_bytes")}
    judge = Evaluator(problem, space, MAGNITUDE, limits, threads=1)
    within, over = at(space, 0.3), at(space, 0.6)  # a file is shorter than foretold where it can be compressed
    assert judge(within).state is TrialState.DONE
    outcome = judge(over)
    assert outcome.state is TrialState.INFEASIBLE and "size_bytes" in outcome.reason and "accuracy" in outcome.values
    values = {m.metric: m.value for m in judge.certify(judge.network(within))}
    assert values["size_bytes"] <= limits["size_bytes"]
    with pytest.raises(BudgetError, match="size_bytes"):
        judge.certify(judge.network(over))


def test_a_race_against_a_far_better_rival_ends_early(evaluator, space):
    outcome = evaluator(at(space, 0.03), at(space, 0.6))
    assert outcome.state is TrialState.STOPPED and "accuracy" in outcome.values
