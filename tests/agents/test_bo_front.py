"""Bayesian optimisation for a front: what a Point adds to it, what is pending, and that it pays."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

import agents
from agents import AgentError, Goal
from agents.bo import WORST_LOAD, _LogNEHVI
from agents.front import Load, dominators, random_load_point
from agents.surrogate import standardised
from automl.testing.agent_kit import AgentConformance, done, play, seeds_differ_after
from tests.kits.front_area import dominated_area
from tests.kits.toy_depth import ToyDepthAccuracy, ToyDepthSpace

GOAL = Goal("accuracy", "maximize")


class TestBoFront(AgentConformance):
    """A front has points below the budget."""

    agent_name = "bo"
    options = {"startup": 12, "candidates": 64, "front": True}
    fills_budget = False
    test_seeds_differ = seeds_differ_after(2)


@pytest.fixture(scope="module")
def problem():
    return ToyDepthAccuracy(ToyDepthSpace(), needed=(1, 3))


def create(problem, seed=0, trials=24, **options):
    settings = {"space": problem.space, "goal": GOAL, "limits": problem.limits, "seed": seed, "trials": trials}
    return agents.create("bo", **settings, front=True, **options)


def random_points(problem, n, seed=0):
    rng = np.random.default_rng(seed)
    drawn = (random_load_point(problem.space, problem.limits, rng) for _ in range(2 * n))
    return list(dict.fromkeys(drawn))[:n]


def taught(problem, n=10):
    agent = create(problem, startup=5)
    agent.tell([done(number, point, problem(point)) for number, point in enumerate(random_points(problem, n))])
    return agent


def hypervolume(utilities, loads, worst):
    """Dominated by points of `utilities` and `loads` ([..., n]) down to `worst` of both: [...]."""
    order = np.argsort(loads, axis=-1)
    utilities, loads = (np.take_along_axis(column, order, axis=-1) for column in (utilities, loads))
    high = np.maximum(np.maximum.accumulate(utilities, axis=-1), worst[0]) - worst[0]
    until = np.concatenate([loads[..., 1:], np.full((*loads.shape[:-1], 1), worst[1])], axis=-1)
    return (high * (until - loads)).sum(axis=-1)


@pytest.mark.parametrize("pending", [0, 2])
def test_what_a_point_adds_is_the_mean_over_draws_of_all_outcomes(problem, pending):
    """Ours by 64 draws, the mean over 20 seeds; the reference by 20,000: equal to a tenth, with fixed seeds."""
    agent, load = taught(problem), Load(problem.space, problem.limits)
    told = [point for point, _ in agent.learnt]
    fresh = [point for point in random_points(problem, 40, seed=1) if point not in told]
    running, new = fresh[:pending], fresh[pending : pending + 8]
    worst = (standardised([utility for _, utility in agent.learnt]).min(), WORST_LOAD)
    expected = []
    for point in new:
        mean, covariance = agent.posterior([*told, *running, point])
        normal = np.random.default_rng(0).standard_normal((20_000, len(mean)))
        drawn = mean + normal @ np.linalg.cholesky(covariance + 1e-8 * np.eye(len(mean))).T
        loads = np.broadcast_to([load(p) for p in (*told, *running, point)], drawn.shape)
        gained = hypervolume(drawn, loads, worst) - hypervolume(drawn[:, :-1], loads[:, :-1], worst)
        expected.append(gained.mean())
    ours = [np.exp(_LogNEHVI(agent, load, running, np.random.default_rng(seed))(new)) for seed in range(20)]
    assert max(expected) > 3 * min(expected)
    assert np.mean(ours, axis=0) == pytest.approx(expected, rel=0.1, abs=0.01)


def test_dominated_are_those_that_another_beats_in_one_and_equals_in_the_other():
    utilities, loads = [1.0, 1.0, 0.5, 0.2, 0.5], [0.5, 0.6, 0.4, 0.9, 0.4]
    assert dominators(utilities, loads).tolist() == [0, 1, 0, 4, 0]


def test_the_front_is_mutated_before_all_others(problem):
    agent = taught(problem, n=20)
    parents, load = agent.parents(), Load(problem.space, problem.limits)
    points, utilities = zip(*agent.learnt, strict=True)
    front = {point for point, n in zip(points, dominators(utilities, list(map(load, points))), strict=True) if n == 0}
    assert set(parents[: len(front)]) == front and len(parents) == max(len(front), 10)


def test_random_points_lie_on_all_parts_of_the_budget(problem):
    rng, load = np.random.default_rng(0), Load(problem.space, problem.limits)
    loads = [load(random_load_point(problem.space, problem.limits, rng)) for _ in range(200)]
    assert max(loads) <= 1 and np.histogram(loads, bins=4, range=(0.2, 1))[0].min() > 20


def test_what_is_no_yes_or_no_is_refused():
    with pytest.raises(AgentError, match="option 'front': expected true or false, got 1"):
        agents.registry.check_options("bo", {"front": 1})


def test_it_never_waits_for_a_kernel_to_be_compiled(problem, monkeypatch):
    """BoTorch compiles one under a lock that a killed process leaves behind."""
    compiled = []
    monkeypatch.setattr("botorch.acquisition.multi_objective.logei._load_attempted", False)
    monkeypatch.setattr("torch.utils.cpp_extension.load", lambda name, **kwargs: compiled.append(name))
    taught(problem).ask(1, [])
    assert not compiled


def best_front(problem):
    """The needed blocks alone, at every two widths of use: what they lack costs accuracy as it saves MACs."""
    space, points = problem.space, []
    for first in range(2, problem.width + 1):
        for second in (0, *range(2, problem.width + 1)):
            levels = dict.fromkeys((knob.name for knob in space.knobs), 0)
            levels |= {f"width{i}": 2 for i in range(space.blocks)}
            for block, width in zip(problem.needed, (first, second), strict=True):
                levels |= {f"block{block}": int(width > 0), f"width{block}": max(width, 2)}
            points.append(space.point([levels[knob.name] for knob in space.knobs]))
    return [*points, space.point(space.lowest.tolist())]


def test_it_dominates_more_of_the_known_front_than_random_points(problem):
    """One-sided Mann-Whitney U over fixed seeds on the area that 18 Points dominate, alpha = 0.01; no chance is left.

    Its rivals are random Points on random parts of the budget, which is how it starts.
    """
    whole = dominated_area(problem, best_front(problem))
    areas = {
        "bo": [
            dominated_area(
                problem, [t.point for t in play(create(problem, seed, trials=18, candidates=100), problem, 18)]
            )
            / whole
            for seed in range(3)
        ],
        "random": [dominated_area(problem, random_points(problem, 18, seed)) / whole for seed in range(60)],
    }
    assert max(areas["bo"] + areas["random"]) <= 1
    assert mannwhitneyu(areas["bo"], areas["random"], alternative="greater").pvalue < 0.01, areas
