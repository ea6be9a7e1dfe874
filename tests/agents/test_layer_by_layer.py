"""The agent that goes layer by layer: stages, its steps by hand, and a drop that it stays within."""

import math

import pytest

import agents
from agents import AgentError, Goal
from automl.testing.agent_kit import AgentConformance, done, play
from automl.testing.toy_space import toy_problem

GOAL = Goal("accuracy", "maximize")


class TestLayerByLayer(AgentConformance):
    agent_name = "layer_by_layer"
    options = {"rollouts": 2}
    fills_budget = False

    def test_seeds_differ(self, problem):
        """Of one knob there are few levels to draw, so that single trials may be alike."""
        plays = [tuple(trial.point for trial in play(self.create(problem, seed), problem, 16)) for seed in range(4)]
        assert len(set(plays)) == 4 and len({points[0] for points in plays}) == 1


def create(problem, trials, limits=None, **options):
    return agents.create(
        "layer_by_layer", space=problem.space, goal=GOAL, limits=limits or {}, seed=0, trials=trials, **options
    )


def test_it_begins_at_the_original_and_tries_one_width_at_a_time():
    problem = toy_problem()
    knobs = problem.space.knobs
    history = play(create(problem, 61), problem, 61, limits={})
    assert [history[0].point[knob.name] for knob in knobs] == problem.space.original_levels.tolist()
    for number, trial in enumerate(history[1:], 1):
        best = max(history[:number], key=lambda known: known.values["accuracy"]).point
        moved = {knob.name for knob in knobs if trial.point[knob.name] != best[knob.name]}
        assert moved <= {knobs[(number - 1) // 5 % len(knobs)].name}


def test_a_step_of_a_policy_is_that_of_the_formula():
    """Of two rewards the standardised are -1 and 1, so that the averages are half of differences."""
    problem = toy_problem()
    agent = create(problem, 61, rollouts=2)
    mean, deviation = agent.mean[0], agent.deviation[0]
    z = []
    for number, value in enumerate((0.0, 1.0, 3.0)):
        point = agent.ask(1, [])[0]
        z.append((problem.space.encode(point)[0] - mean) / deviation)
        agent.tell([done(number, point, value)])
    assert agent.mean[0] == pytest.approx(mean + deviation * (z[2] - z[1]) / 2)
    assert agent.deviation[0] == pytest.approx(deviation * math.exp((z[2] ** 2 - z[1] ** 2) / 4))
    assert agent.mean[1:].tolist() == create(problem, 61).mean[1:].tolist()


@pytest.mark.parametrize("limited", [False, True])
def test_more_is_cut_where_more_may_be_lost_and_no_more_is_lost(limited):
    """Huang's reward on a toy whose accuracy is known, with no budget and with one that leaves room."""
    problem = toy_problem()
    space = problem.space
    whole = space.point(space.original_levels.tolist())
    best, params = problem(whole), space.cost(whole, "params")
    limits = {"params": 0.9 * params} if limited else {}
    left = []
    for bound in (0.01, 0.05, 0.2):

        def reward(point, bound=bound):
            return (1 - (best - problem(point)) / bound) * math.log(params / space.cost(point, "params"))

        agent = create(problem, 121, limits)
        for number in range(121):
            point = agent.ask(1, [])[0]
            agent.tell([done(number, point, reward(point))])
        assert best - problem(agent.best.point) <= bound
        left.append(space.cost(agent.best.point, "params") / params)
    assert left[2] < left[1] < left[0] < 0.9


def test_an_option_that_makes_no_sense_is_refused():
    for options in ({"rollouts": 0}, {"lr": 0}):
        with pytest.raises(AgentError, match=f"option '{next(iter(options))}': expected"):
            create(toy_problem(), 8, **options)
