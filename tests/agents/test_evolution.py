"""Regularised evolution: the population ages, the best of a tournament is mutated, a mutation is a small exchange."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

import agents
from agents import AgentError, Goal, Trial, TrialState
from agents.moves import exchange
from automl.testing.agent_kit import AgentConformance, assert_budget_used_up, done, play
from automl.testing.toy_space import ToySpace, toy_problem

GOAL = Goal("accuracy", "maximize")


def create(problem, name="evolution", seed=0, trials=40, **options):
    return agents.create(
        name, space=problem.space, goal=GOAL, limits=problem.limits, seed=seed, trials=trials, **options
    )


class TestEvolution(AgentConformance):
    agent_name = "evolution"
    options = {"population": 4}


class TestEvolutionOfOne(AgentConformance):
    """Every child replaces its only possible parent."""

    agent_name = "evolution"
    options = {"population": 1, "exchanges": 1.0, "strength": 0.01}


def test_the_oldest_dies_however_good():
    problem = toy_problem()
    agent = create(problem, population=3)
    history = [done(n, agent.ask(1, [])[0], value) for n, value in enumerate([0.9, 0.1, 0.2])]
    agent.tell(history)
    assert [trial.number for trial in agent.population] == [0, 1, 2]
    agent.tell([done(3, agent.ask(1, [])[0], 0.3)])
    assert [trial.number for trial in agent.population] == [1, 2, 3]


def test_the_best_of_all_is_the_parent_where_all_fight_and_the_younger_of_equals():
    problem = toy_problem()
    agent = create(problem, population=4, tournament=4)
    agent.tell([done(n, agent.ask(1, [])[0], value) for n, value in enumerate([0.1, 0.8, 0.8, 0.3])])
    assert agent.parent(np.random.default_rng(0)).number == 2


def test_a_small_tournament_lets_others_win():
    problem = toy_problem()
    agent = create(problem, population=4, tournament=1)
    agent.tell([done(n, agent.ask(1, [])[0], value) for n, value in enumerate([0.1, 0.8, 0.8, 0.3])])
    assert {agent.parent(np.random.default_rng(seed)).number for seed in range(40)} == {0, 1, 2, 3}


@pytest.mark.parametrize("state", [TrialState.FAILED, TrialState.INFEASIBLE])
def test_failed_and_infeasible_trials_have_no_children_and_stopped_ones_do(state):
    problem = toy_problem()
    agent = create(problem, population=2)
    first, second = agent.ask(2, [])
    agent.tell([Trial(0, first, state, {"accuracy": 0.99} if state is TrialState.INFEASIBLE else {})])
    agent.tell([Trial(1, second, TrialState.STOPPED, {"accuracy": 0.2})])
    assert [trial.point for trial in agent.population] == [second]


def test_nothing_is_tried_twice():
    problem = toy_problem()
    history = play(create(problem, population=4), problem, 40)
    assert len({trial.point for trial in history}) == len(history) == 40


def test_where_everything_has_been_tried_there_is_no_more():
    problem, loose = toy_problem(), {"macs": 1e12}
    agent = agents.create("evolution", space=problem.space, goal=GOAL, limits=loose, seed=0, trials=9)
    assert len(play(agent, problem, 9, limits=loose)) == 1


def test_the_first_population_is_random_search_and_scales_with_the_trials():
    problem = toy_problem()
    evolution, random = create(problem, trials=16), create(problem, "random", trials=16)
    agree = [a.point == b.point for a, b in zip(play(evolution, problem, 9), play(random, problem, 9), strict=True)]
    assert agree == [True] * 6 + [False] * 3
    assert [create(problem, trials=trials).size for trials in (100, 400)] == [15, 30]


def test_an_exchange_stays_on_the_budget_and_moves_few_knobs():
    """What a fine step frees is less than a level of most other knobs, so they stay; wide steps are few."""
    problem = toy_problem()
    space, rng = problem.space, np.random.default_rng(0)
    point = space.project(np.ones(6), problem.limits)
    moved = []
    for _ in range(300):
        neighbour = exchange(space, point, problem.limits, rng, 0.3)
        assert_budget_used_up(space, neighbour, problem.limits)
        moved.append(int((space.levels(neighbour) != space.levels(point)).sum()))
    assert np.median(moved) <= 3
    assert np.mean(np.array(moved) > 0) > 0.8


def test_every_knob_both_gives_and_takes():
    problem = toy_problem()
    space, rng = problem.space, np.random.default_rng(1)
    point = space.project(np.ones(6), problem.limits)
    steps = [space.levels(exchange(space, point, problem.limits, rng, 0.5)) - space.levels(point) for _ in range(300)]
    assert (np.min(steps, axis=0) < 0).all() and (np.max(steps, axis=0) > 0).all()


def test_without_limits_an_exchange_moves_one_knob_either_way():
    space, rng = ToySpace(), np.random.default_rng(0)
    point = space.decode(np.full(6, 0.5))
    steps = np.array([space.levels(exchange(space, point, {}, rng, 0.5)) - space.levels(point) for _ in range(200)])
    assert ((steps != 0).sum(axis=1) == 1).all()
    assert (steps.min(axis=0) < 0).all() and (steps.max(axis=0) > 0).all()


def test_nothing_to_exchange_is_the_point_itself():
    space, rng = ToySpace(), np.random.default_rng(0)
    for levels in (space.lowest, space.highest):
        point = space.point(levels.tolist())
        assert exchange(space, point, {"macs": space.cost(point, "macs")}, rng, 0.5) == point


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("population", 0),
        ("tournament", 1.5),
        ("population", True),
        ("strength", 0),
        ("strength", 2),
        ("strength", "wide"),
        ("exchanges", 0.5),
        ("exchanges", float("nan")),
    ],
)
def test_senseless_options_are_refused(option, value):
    with pytest.raises(AgentError, match=f"option '{option}': expected .*, got {value!r}"):
        create(toy_problem(), **{option: value})


def test_a_tournament_larger_than_the_population_is_refused():
    with pytest.raises(AgentError, match="at most the population of 4, got 5"):
        create(toy_problem(), population=4, tournament=5)


def test_evolution_beats_random_search_at_equal_evaluations():
    """One-sided Mann-Whitney U over ten fixed seeds on the best value found, alpha = 0.01; no chance is left in it."""
    problem, trials = toy_problem(), 80
    best = {
        name: [
            max(trial.values["accuracy"] for trial in play(create(problem, name, seed, trials), problem, trials))
            for seed in range(10)
        ]
        for name in ("evolution", "random")
    }
    assert mannwhitneyu(best["evolution"], best["random"], alternative="greater").pvalue < 0.01, best
