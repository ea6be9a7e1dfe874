"""Exact allocation: the programme is optimal, the limits are kept, the searches over it learn."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

import agents
from agents import AgentError, ErrorCurves, Goal, Trial, TrialState
from agents.allocation import Allocator, allocate
from agents.summed_losses import Losses, Pair
from agents.thompson import regress
from automl.testing.agent_kit import AgentConformance, assert_budget_used_up, done, play, seeds_differ_after
from automl.testing.toy_space import ToySpace, toy_problem
from search_spaces import Point
from tests.kits.blocks import BlockProblem
from tests.kits.toy_depth import ToyDepthAccuracy, ToyDepthSpace

GOAL = Goal("accuracy", "maximize")


class TestAllocation(AgentConformance):
    agent_name = "allocation"


class TestExact(AgentConformance):
    agent_name = "exact"
    test_seeds_differ = seeds_differ_after(1)


class TestThompson(AgentConformance):
    agent_name = "thompson"
    test_seeds_differ = seeds_differ_after(1)


def create(problem, name="exact", seed=0, trials=40, **changes):
    arguments = {"space": problem.space, "goal": GOAL, "limits": problem.limits, "sensitivity": problem.sensitivity}
    return agents.create(name, seed=seed, trials=trials, **arguments | changes)


def random_curves(space, rng):
    """Falling, not always convex."""
    return {
        knob.name: np.sort(np.append(rng.exponential(size=len(knob.levels) - 1) ** 2, 0.0))[::-1]
        for knob in space.knobs
    }


def brute_force(space, limits, losses):
    """The least sum of losses of all Points within the limits."""
    legal = itertools.product(*(range(len(knob.levels)) for knob in space.knobs))
    levels = [[knob.levels[i] for knob, i in zip(space.knobs, indices, strict=True)] for indices in legal]
    within = [row for row in levels if space.within(np.array(row), limits)]
    return min(
        losses.total(np.array([knob.levels.index(level) for knob, level in zip(space.knobs, row, strict=True)]))
        for row in within
    )


def highest(space):
    return np.array([knob.levels[-1] for knob in space.knobs])


def lowest(space):
    return np.array([knob.levels[0] for knob in space.knobs])


@pytest.mark.parametrize("seed", range(40))
def test_the_programme_is_optimal(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 6, size=4)
    losses = [np.sort(rng.random(n))[::-1] for n in sizes]
    costs = [np.concatenate([[0], np.cumsum(rng.integers(0, 50, n - 1))]).astype(float) for n in sizes]
    budget = float(rng.integers(0, int(sum(cost[-1] for cost in costs)) + 2))
    chosen = allocate(losses, costs, budget)
    assert sum(cost[i] for cost, i in zip(costs, chosen, strict=True)) <= budget
    every = itertools.product(*(range(n) for n in sizes))
    best = min(
        Losses(losses).total(indices)
        for indices in every
        if sum(cost[i] for cost, i in zip(costs, indices, strict=True)) <= budget
    )
    assert Losses(losses).total(chosen) == pytest.approx(best, rel=1e-6)


def test_without_a_common_unit_costs_are_rounded_up():
    # Each costs 3333.3 of 10,000 buckets, so 3334: three fit in fact, two by this count, which the fill makes good.
    losses, cost = [np.array([1.0, 0.0])] * 3, np.array([0.0, np.pi])
    assert allocate(losses, [cost] * 3, 3 * np.pi * 1.00005).sum() == 2
    assert allocate(losses, [cost] * 3, 3 * np.pi * 1.001).sum() == 3


@pytest.mark.parametrize("budget", [0.0, 1e-9, -1e-9])
def test_a_budget_that_only_the_cheapest_keeps_leaves_the_cheapest(budget):
    assert allocate([np.array([1.0, 0.0])] * 2, [np.array([0.0, 1e10]), np.array([0.0, 0.0])], budget).tolist() == [
        0,
        1,
    ]


@pytest.mark.parametrize("seed", range(10))
def test_where_costs_add_up_the_allocation_is_optimal(seed):
    problem = BlockProblem(1, seed, sizes=(6, 8, 10))
    allocator = Allocator(problem.space, problem.limits, random_curves(problem.space, np.random.default_rng(seed)))
    assert allocator.separable
    weights = np.random.default_rng(seed).random(3)
    point = allocator.solve(weights)
    assert_budget_used_up(problem.space, point, problem.limits)
    losses = allocator.losses.weighted(weights)
    assert losses.total(allocator.indices(point)) == pytest.approx(
        brute_force(problem.space, problem.limits, losses), rel=1e-6
    )


@pytest.mark.parametrize("seed", range(10))
def test_so_it_is_where_knobs_make_others_dearer(seed):
    problem, rng = BlockProblem(1, seed, sizes=(6, 8, 10)), np.random.default_rng(seed)
    names = [knob.name for knob in problem.space.knobs]
    curves = ErrorCurves(random_curves(problem.space, rng), {(names[2], names[0]): 1 + rng.exponential(5)})
    allocator = Allocator(problem.space, problem.limits, curves)
    point = allocator.solve(np.ones(3))
    assert_budget_used_up(problem.space, point, problem.limits)
    assert allocator.losses.total(allocator.indices(point)) == pytest.approx(
        brute_force(problem.space, problem.limits, allocator.losses), rel=1e-6
    )


@pytest.mark.parametrize("dearer", [{("block0", "nothing"): 2.0}, {("block0", "block1"): 2.0, ("block2", "block0"): 3}])
def test_pairs_that_cannot_be_are_refused(dearer):
    problem = BlockProblem(1, 0, sizes=(6, 8, 10))
    curves = random_curves(problem.space, np.random.default_rng(0))
    with pytest.raises(AgentError, match=r"each knob in one of them, got '(nothing|block0)'"):
        Allocator(problem.space, problem.limits, ErrorCurves(curves, dearer))


def test_losses_of_options_and_of_moves_are_differences_of_the_whole():
    rng = np.random.default_rng(0)
    curves = [np.sort(np.append(rng.exponential(size=n - 1), 0.0))[::-1] for n in (4, 3, 5)]
    losses = Losses(curves, [Pair(2, 0, 7.0)])
    for indices in map(np.array, itertools.product(range(4), range(3), range(5))):
        plain = [curve[i] for curve, i in zip(curves, indices, strict=True)]
        plain[0] *= 7.0 if indices[2] < 4 else 1.0
        assert losses.total(indices) == pytest.approx(sum(plain))
        both = losses.of_options((2, 0)).reshape(5, 4)[indices[2], indices[0]]
        assert both + losses.of_options((1,))[indices[1]] == pytest.approx(losses.total(indices))
        for t, by in itertools.product(range(3), (-1, 1)):
            if 0 <= indices[t] + by < len(curves[t]):
                moved = indices.copy()
                moved[t] += by
                rise = losses.rise(indices, t, by)
                assert rise == pytest.approx(losses.total(moved) - losses.total(indices)) and rise * by <= 0


def test_where_widths_multiply_the_allocation_is_nearly_optimal():
    """One or two limits, 4 knobs of up to 8 levels: the optimum in most cases, and close to it on average."""
    gaps = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        space = ToySpace(tuple(rng.choice([4, 6, 8], 4)), tuple(rng.choice([1, 1, 2], 4)))
        curves = {
            knob.name: rng.exponential() * (1 - np.array(knob.levels) / knob.size) ** rng.uniform(1, 3)
            for knob in space.knobs
        }
        metrics = space.metrics[: 1 + seed % 2]
        limits = {metric: rng.uniform(0.3, 0.7) * space.cost_of_levels(space.highest, metric) for metric in metrics}
        allocator = Allocator(space, limits, curves)
        assert not allocator.separable
        point = allocator.solve(np.ones(4))
        assert_budget_used_up(space, point, limits)
        best = brute_force(space, limits, allocator.losses)
        gaps.append(allocator.losses.total(allocator.indices(point)) / best - 1)
    assert np.median(gaps) < 1e-6 and np.mean(gaps) < 0.05, gaps


@pytest.mark.parametrize("name", ["allocation", "exact", "thompson", "amc_warm"])
def test_without_curves_that_fit_there_is_nothing_to_allocate(name):
    problem = toy_problem()
    with pytest.raises(AgentError, match="was given none"):
        create(problem, name, sensitivity=None)
    with pytest.raises(AgentError, match="knob 'conv0' as 16 finite losses >= 0, one for each level, got 3 values"):
        create(problem, name, sensitivity=problem.sensitivity | {"conv0": np.zeros(3)})
    with pytest.raises(AgentError, match="knob 'conv5'"):
        create(problem, name, sensitivity=problem.sensitivity | {"conv5": np.full(59, np.nan)})


@pytest.mark.parametrize("name", ["allocation", "exact", "thompson"])
@pytest.mark.parametrize("budget", [204.0, 100.0, 55.0])
def test_bits_without_a_curve_stand_as_in_the_uniform_point(name, budget):
    """At the smaller budgets it has removed some blocks, or all."""
    problem, limits = ToyDepthAccuracy(ToyDepthSpace(), needed=(1, 3)), {"macs": budget}
    space, agent = problem.space, create(problem, name, limits=limits, trials=12)
    uniform = space.project(np.ones(len(space.knobs)), limits)
    points = [trial.point for trial in play(agent, problem, 12, limits=limits)]
    for point in points:
        levels = space.levels(point)
        assert space.within(levels, limits) and space.fill(levels.tolist(), np.ones(len(levels)), limits) == point
        assert all(point[knob.name] == uniform[knob.name] for knob in space.knobs if knob.is_bit)
    assert len(set(points)) >= (10 if name != "allocation" and budget > 200 else 1)


def test_only_bits_may_go_without_a_curve():
    problem = ToyDepthAccuracy(ToyDepthSpace(), needed=(1, 3))
    with pytest.raises(AgentError, match="knob 'width2' as 15 finite losses >= 0, one for each level, got 0 values"):
        create(problem, sensitivity={k: v for k, v in problem.sensitivity.items() if k != "width2"})


@pytest.mark.parametrize("name", ["exact", "thompson", "amc_warm"])
def test_the_search_begins_where_the_searchless_recipe_ends(name):
    problem = toy_problem()
    (plain,) = create(problem, "allocation").ask(3, [])
    assert create(problem, name).ask(1, [])[0] == plain


def test_the_coefficients_behind_the_best_are_found_again():
    problem = BlockProblem(3, 0)
    agent = create(problem)
    history = play(agent, problem, 40)
    best = max(history, key=lambda trial: trial.values["accuracy"])
    assert agent.best == best.values["accuracy"]
    assert len(agent.incumbents) > 3
    assert agent.allocator.solve(agent.weights(agent.incumbents[-1])) == best.point
    assert all((coefficients >= 0).all() and (coefficients <= 1).all() for coefficients in agent.incumbents)


def test_operators_that_share_a_budget_are_weighed_against_each_other():
    problem = BlockProblem(3, 0)
    one = create(problem)
    assert one.operators == [] and all(
        np.array_equal(one.weights(each), each) for each in itertools.islice(one.candidates(1, one.incumbents[0]), 5)
    )
    half = len(problem.space.knobs) // 2
    problem.space.knobs = tuple(
        replace(knob, operator="depth" if t < half else "channels") for t, knob in enumerate(problem.space.knobs)
    )
    agent = create(problem)
    history = play(agent, problem, 40)
    best = max(history, key=lambda trial: trial.values["accuracy"])
    assert agent.allocator.solve(agent.weights(agent.incumbents[-1])) == best.point
    drawn = [agent.weights(each) for each in itertools.islice(agent.candidates(1, agent.incumbents[0]), 30)]
    ratios = [weights[:half].mean() / weights[half:].mean() for weights in drawn]
    assert min(ratios) < 0.1 and max(ratios) > 10
    assert np.array_equal(agent.weights(agent.incumbents[0]), np.ones(len(problem.space.knobs)))


def test_the_first_trials_take_from_one_operator_alone_and_from_all_but_one():
    problem = BlockProblem(3, 0)
    shares = np.array_split(np.arange(len(problem.space.knobs)), 3)
    operators = {int(t): name for name, share in zip(("depth", "channels", "code"), shares, strict=True) for t in share}
    problem.space.knobs = tuple(replace(knob, operator=operators[t]) for t, knob in enumerate(problem.space.knobs))

    def touched(limits, number):
        agent = create(problem, limits=limits)
        point = agent.allocator.solve(agent.weights(agent.sides[number]))
        return {knob.operator for knob in problem.space.knobs if point[knob.name] < knob.levels[-1]}

    (metric,) = problem.limits
    whole, least = (problem.space.cost_of_levels(f(problem.space), metric) for f in (highest, lowest))
    loose = {metric: whole - 0.1 * (whole - least)}
    assert [touched(loose, number) for number in range(3)] == [{"depth"}, {"channels"}, {"code"}]
    assert all(len(touched(loose, number)) == 2 for number in range(3, 6))
    tight = {metric: least + 0.05 * (whole - least)}
    assert create(problem, limits=tight).sides == [], "none of them can be spared"


@pytest.mark.parametrize("name", ["exact", "thompson"])
def test_no_point_is_tried_twice(name):
    problem = BlockProblem(3, 1)
    points = [trial.point for trial in play(create(problem, name), problem, 40)]
    assert len(set(points)) == 40


@pytest.mark.parametrize("name", ["exact", "thompson"])
def test_stopped_trials_teach_and_infeasible_ones_do_not(name):
    problem = BlockProblem(3, 0)
    taught, untaught = create(problem, name), create(problem, name)
    for number in range(12):
        point = taught.ask(1, [])[0]
        taught.tell([Trial(number, point, TrialState.STOPPED, {"accuracy": problem(point)}, "cannot win")])
        untaught.tell([Trial(number, point, TrialState.INFEASIBLE, {"accuracy": problem(point)}, "too big")])
    if name == "exact":
        assert len(taught.incumbents) > 1 and len(untaught.incumbents) == 1
    else:
        assert taught.posterior is not None and untaught.posterior is None
    assert all(np.isfinite(value) for value in taught.diagnostics().values())


def test_the_regression_finds_coefficients_where_losses_add_up():
    rng = np.random.default_rng(0)
    true = np.array([0.5, 1.0, 2.0, 1.5, 0.2])
    rows = rng.exponential(size=(60, 5))
    posterior = regress(list(rows), list(3.0 + 0.01 * (rows @ true) + 1e-4 * rng.normal(size=60)))
    assert 100 * posterior.mean == pytest.approx(true, abs=0.03)
    draws = np.array([posterior.draw(np.random.default_rng(i), 1.0) for i in range(200)])
    assert (100 * draws).mean(axis=0) == pytest.approx(true, abs=0.03)
    assert (draws > 0).all()


@pytest.mark.parametrize(("name", "trials"), [("exact", 60), ("thompson", 40), ("amc_warm", 30)])
def test_it_beats_random_search_at_equal_evaluations(name, trials):
    """One-sided Mann-Whitney U over 8 fixed seeds on the distance to the best allocation, alpha = 0.01."""
    gaps = {"random": [], name: []}
    for seed in range(8):
        problem = BlockProblem(3, seed)
        for agent, out in gaps.items():
            sensitivity = problem.sensitivity if agents.uses_sensitivity(agent) else None
            history = play(create(problem, agent, seed, trials, sensitivity=sensitivity), problem, trials)
            out.append(problem.best - max(problem(trial.point) for trial in history))
    assert mannwhitneyu(gaps[name], gaps["random"], alternative="less").pvalue < 0.01, gaps


def test_a_point_from_elsewhere_is_survived():
    problem = BlockProblem(1, 0)
    agent = create(problem)
    elsewhere = Point(problem.space.project(np.array([0.2, 1.0, 0.3]), problem.limits))
    agent.tell([done(0, elsewhere, 2.0)])
    assert agent.ask(1, [])
