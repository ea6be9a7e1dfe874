"""Pruning in stages: falling budgets, nested plans, weights carried over or rewound."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch

from automl.config.training import StageOptions
from automl.errors import ConfigError
from automl.evaluation import Evaluator
from automl.study.greedy import energies, global_greedy
from automl.study.scratch import renewed
from automl.study.stages import cut_greedily, cut_towards, prune_in_stages, stages, towards
from automl.training.methods.growing_decay import GrowingDecay
from search_spaces import channel_space
from tests.kits.digits import accuracy, hard, problem, train
from tests.kits.plans import kept_by


@pytest.fixture(scope="module")
def space():
    trained = problem("small_cnn")
    return channel_space(trained.model, trained.example_inputs)


def macs(space, part):
    return {"macs": part * space.cost_of_levels(space.highest, "macs")}


def same_weights(a, b):
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_every_stage_removes_the_same_part_of_what_it_finds():
    found = stages({"macs": 100.0, "params": 50.0, "size_bytes": 1.0}, {"macs": 12.5, "params": 50.0}, 3)
    assert [set(limits) for limits in found] == [{"macs", "params"}] * 3
    np.testing.assert_allclose([limits["macs"] for limits in found], [50, 25, 12.5])
    rate = 1 - (1 - 0.875) ** (1 / 3)  # of the per-phase rate's formula
    np.testing.assert_allclose([limits["macs"] for limits in found], [100 * (1 - rate) ** k for k in (1, 2, 3)])
    assert found[-1] == {"macs": 12.5, "params": 50.0}  # exactly, not to rounding
    assert stages({"macs": 10.0}, {"macs": 3.0}, 1) == [{"macs": 3.0}]


def test_no_stages_make_no_sense():
    with pytest.raises(ConfigError, match="count"):
        StageOptions(0)


def test_on_the_way_to_a_point(space):
    goal = space.project(np.array([0.3, 0.9, 0.6, 0.2]), macs(space, 0.3))
    before = space.highest
    for limits in stages(macs(space, 1.0), macs(space, 0.3), 4):
        point = towards(space, goal, limits)
        levels = space.levels(point)
        assert space.within(levels, limits)
        assert (levels >= space.levels(goal)).all() and (levels <= before).all()
        assert space.cost(point, "macs") > 0.8 * limits["macs"]
        before = levels
    assert point == goal
    assert towards(space, goal, macs(space, 1.0)) == space.point(space.highest.tolist())
    assert towards(space, goal, macs(space, 0.2)) == goal


def test_stages_are_cut_for_real_from_what_was_tuned(space):
    budgets = stages(macs(space, 1.0), macs(space, 0.3), 3)
    seen = []

    def cut(left, limits):
        plan, made = cut_greedily(within_groups=True)(left, limits)
        seen.append((plan, made()))
        return plan, made

    done = prune_in_stages(space, budgets, cut, lambda network, plan, i: train(network, hard, 2, 0.02))
    assert len(done) == 3
    for i, stage in enumerate(done):
        whole = space.build(stage.plan).state_dict()
        assert {name: t.shape for name, t in stage.network.state_dict().items()} == {
            n: t.shape for n, t in whole.items()
        }
        levels = [len(kept_by(stage.plan)[knob.name]) for knob in space.knobs]
        assert space.cost(space.point(levels), "macs") <= stage.limits["macs"]
        plan, untuned = seen[i]
        assert not same_weights(untuned, stage.network)
        if i:
            before = done[i - 1]
            assert all(set(kept_by(plan)[name]) <= set(kept) for name, kept in kept_by(before.plan).items())
            assert sum(map(len, kept_by(plan).values())) < sum(map(len, kept_by(before.plan).values()))
            # The weights are those of the stage before, sliced: here of a layer by the positions in what it had.
            rows = np.searchsorted(kept_by(before.plan)["conv3.0"], kept_by(plan)["conv3.0"])
            columns = np.searchsorted(kept_by(before.plan)["stem.0"], kept_by(plan)["stem.0"])
            weight = before.network.get_parameter("conv3.0.weight").detach()
            assert torch.equal(untuned.get_parameter("conv3.0.weight"), weight[rows][:, columns])
    assert accuracy(done[-1].network) > accuracy(seen[-1][1]) + 0.1


def test_one_stage_is_cutting_and_tuning(space):
    limits = macs(space, 0.4)
    (stage,) = prune_in_stages(space, [limits], cut_greedily(within_groups=False), lambda network, plan, i: None)
    plan = space.plan(global_greedy(space, energies(space), limits), energies(space))
    assert stage.plan == plan and same_weights(stage.network, space.build(plan))


def test_weights_are_rewound_but_channels_chosen_by_tuned_ones(space):
    early = renewed(space.original)
    started = []

    def tune(network, plan, i):
        started.append(copy.deepcopy(network))
        train(network, hard, 1, 0.02)

    budgets = stages(macs(space, 1.0), macs(space, 0.4), 2)
    done = prune_in_stages(space, budgets, cut_greedily(within_groups=False), tune, early=early)
    from_early = channel_space(early, problem("small_cnn").example_inputs)
    for stage, start in zip(done, started, strict=True):
        assert same_weights(start, from_early.build(stage.plan))
    chosen, _ = cut_greedily(within_groups=False)(space.narrowed(done[0].network, done[0].plan), budgets[1])
    assert done[1].plan == chosen


def test_what_is_to_go_is_pressed_out_of_the_network_before(space):
    """The cut is decided first, and takes next to nothing from what has been pressed; the kept weights move on."""
    budgets = stages(macs(space, 1.0), macs(space, 0.4), 2)
    lost, cuts = [], []

    def press(network, before, plan, i):
        assert {n: t.shape for n, t in space.build(before).named_parameters()} == {
            n: t.shape for n, t in network.named_parameters()
        }
        train(network, hard, 4, 0.05, GrowingDecay(space, plan, before=before))
        lost.append(accuracy(network))
        cuts.append(plan)

    def tune(network, plan, i):
        lost[-1] -= accuracy(network)
        train(network, hard, 1, 0.02)

    before = copy.deepcopy(space.original)
    done = prune_in_stages(space, budgets, cut_greedily(within_groups=True), tune, press=press)
    assert [stage.plan for stage in done] == cuts and np.mean(lost) < 0.05, lost
    assert same_weights(space.original, before), "the original is not changed"
    left = prune_in_stages(space, budgets[:1], cut_greedily(within_groups=True), lambda network, plan, i: None)
    assert left[0].plan == cuts[0] and accuracy(left[0].network) < 0.9 < accuracy(done[0].network)


def test_stages_on_the_way_to_a_point_are_built_as_trials_are(space):
    trained = problem("small_cnn")
    goal = space.project(np.array([0.5, 0.6, 0.9, 0.6]), macs(space, 0.3))
    budgets = stages(macs(space, 1.0), macs(space, 0.3), 3)
    cuts = []

    def tune(network, plan, i):
        cuts.append(accuracy(network))
        train(network, hard, 2, 0.02)

    done = prune_in_stages(space, budgets, cut_towards(goal, lambda space: Evaluator(trained, space, threads=1)), tune)
    assert {name: len(kept) for name, kept in kept_by(done[-1].plan).items()} == dict(goal)
    for before, after in pairwise(done):
        assert all(set(kept_by(after.plan)[name]) <= set(kept) for name, kept in kept_by(before.plan).items())
    at_once = Evaluator(trained, space, threads=1).network(goal)
    assert cuts[-1] > accuracy(at_once) + 0.03  # the last cut removes less, from what has been tuned
    assert accuracy(done[-1].network) > 0.9
