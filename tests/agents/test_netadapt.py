"""NetAdapt: one knob a step, the best measured wins, the walk ends on the budget and within the trials planned."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

import agents
from agents import AgentError, Goal, Trial, TrialState
from automl.testing.agent_kit import AgentConformance, assert_budget_used_up, finished, play
from automl.testing.toy_space import ToyAccuracy, ToySpace, toy_problem

GOAL = Goal("accuracy", "maximize")


def create(problem, name="netadapt", seed=0, trials=120, limits=None, **options):
    limits = problem.limits if limits is None else limits
    return agents.create(name, space=problem.space, goal=GOAL, limits=limits, seed=seed, trials=trials, **options)


def levels_of(trial, problem):
    return problem.space.levels(trial.point)


class TestNetAdapt(AgentConformance):
    agent_name = "netadapt"
    stays_within = False
    may_wait = True

    def test_seeds_differ(self, problem):
        """Only the local search draws anything."""
        plays = [play(self.create(problem, seed), problem, 16)[-1].point for seed in range(4)]
        assert len(set(plays)) == 4


class TestNetAdaptWalking(TestNetAdapt):
    """All trials for the walk: `TRIALS` are enough for some steps of single knobs."""

    agent_name = "netadapt"
    options = {"walk": 1.0}

    def test_seeds_differ(self, problem):
        pytest.skip("the walk draws nothing")


def test_the_first_step_is_the_argmax_by_hand():
    problem = toy_problem()
    space, limit = problem.space, problem.limits["macs"]
    agent = create(problem, trials=120)
    first = [Trial(n, point) for n, point in enumerate(agent.ask(20, []))]
    whole = space.cost_of_levels(space.highest, "macs")
    steps = 60 // 6  # half of the trials, every knob tried in each
    target = whole - (whole - limit) / steps
    by_hand = {}
    for t, knob in enumerate(space.knobs):
        for level in reversed(knob.levels):
            levels = space.highest.copy()
            levels[t] = level
            if space.cost_of_levels(levels, "macs") <= target * (1 + 1e-12):
                by_hand[t] = levels
                break
    assert 4 <= len(by_hand) <= 6
    assert [levels_of(trial, problem).tolist() for trial in first] == [levels.tolist() for levels in by_hand.values()]
    told = [finished(trial.number, trial.point, problem) for trial in first]
    assert all(trial.state is TrialState.INFEASIBLE for trial in told)
    agent.tell(told)
    assert agent.base == max(by_hand.values(), key=lambda x: problem(space.point(x.tolist()))).tolist()


def test_the_next_step_goes_on_from_the_best_measured_not_from_the_best_in_truth():
    problem = toy_problem()
    agent = create(problem)
    points = agent.ask(20, [])
    agent.tell([Trial(n, p, TrialState.INFEASIBLE, {"accuracy": n / 10}) for n, p in enumerate(points)])
    base = problem.space.levels(points[-1])
    for point in agent.ask(20, []):
        assert (problem.space.levels(point) <= base).all()
        assert (problem.space.levels(point) != base).sum() == 1


def test_between_steps_it_waits():
    problem = toy_problem()
    agent = create(problem)
    running = [Trial(n, point) for n, point in enumerate(agent.ask(20, []))]
    assert agent.ask(1, running) == []
    for trial in running[:-1]:
        agent.tell([finished(trial.number, trial.point, problem)])
    assert agent.ask(3, running[-1:]) == []
    agent.tell([finished(running[-1].number, running[-1].point, problem)])
    assert len(agent.ask(20, [])) > 1


def test_a_candidate_that_failed_is_not_taken():
    problem = toy_problem()
    agent = create(problem)
    points = agent.ask(20, [])
    agent.tell([Trial(0, points[0], TrialState.FAILED)])
    agent.tell([Trial(n, p, TrialState.INFEASIBLE, {"accuracy": 0.1}) for n, p in enumerate(points[1:], 1)])
    assert agent.base == problem.space.levels(points[1]).tolist()


@pytest.mark.parametrize("trials", [1, 2, 5, 16, 40, 100, 300])
@pytest.mark.parametrize("n", [1, 6, 27])
@pytest.mark.parametrize("walk", [0.5, 1.0])
def test_the_walk_ends_within_the_limits_and_the_trials(n, trials, walk):
    widths = (16,) * 6 + (64,) * (n - 6) if n > 6 else (16, 16, 32, 32, 64, 64)[:n]
    problem = ToyAccuracy(ToySpace(widths, (1,) * n), (0.5,) * n, (1.0,) * n)
    whole = problem.space.point(problem.space.highest.tolist())
    limits = {"macs": problem.limits["macs"], "params": 0.4 * problem.space.cost(whole, "params")}
    agent, walked = create(problem, trials=trials, limits=limits, walk=walk), 0
    while agent.step:
        point = agent.ask(1, [])[0]
        agent.tell([finished(walked, point, problem, limits)])
        walked += 1
    assert walked <= max(trials * walk + 1, 1) and walked <= trials
    assert agent.best is not None
    assert_budget_used_up(problem.space, agent.best.point, limits)


def test_a_walk_survives_whatever_fails():
    """Half of all trials fail, at random; then all of them."""
    problem, rng = toy_problem(), np.random.default_rng(0)
    for chance in (0.5, 1.0):
        agent, number = create(problem, trials=60), 0
        while number < 60 and (points := agent.ask(1, [])):
            failed = rng.random() < chance
            agent.tell(
                [Trial(number, points[0], TrialState.FAILED) if failed else finished(number, points[0], problem)]
            )
            number += 1
        assert number == 60
        assert problem.space.within(np.array(agent.base), problem.limits)


def test_many_knobs_and_few_trials_are_cut_alike_at_once():
    problem = ToyAccuracy(ToySpace((16,) * 27, (1,) * 27), (0.5,) * 27, (1.0,) * 27)
    agent = create(problem, trials=40)
    assert agent.ask(4, []) == [problem.space.project(np.ones(27), problem.limits)]


def test_with_fewer_trials_a_step_tries_only_what_was_cheap():
    """Twelve knobs, of which the later ones cost nothing to cut."""
    n = 12
    problem = ToyAccuracy(ToySpace((32,) * n, (1,) * n), (0.9,) * 6 + (0.4,) * 6, (3.0,) * 6 + (0.01,) * 6)
    agent, sizes, number = create(problem, trials=100), [], 0
    while agent.step:
        points = agent.ask(20, [])
        sizes.append(len(points))
        agent.tell([finished(number + n, point, problem) for n, point in enumerate(points)])
        number += len(points)
        if len(sizes) == 1:
            assert set(agent.step.values()) <= set(range(6, 12))
    assert sizes[0] == n > max(sizes[1:-1])


def test_without_a_budget_it_measures_the_whole_network_and_stops():
    problem = toy_problem()
    for limits in ({}, {"macs": 1e12}):
        history = play(create(problem, limits=limits), problem, 10, limits=limits)
        assert [levels_of(trial, problem).tolist() for trial in history] == [problem.space.highest.tolist()]


def test_the_local_search_starts_from_the_best_within_the_limits():
    problem = toy_problem()
    agent = create(problem, trials=60)
    history = play(agent, problem, 60)
    done_ = [trial for trial in history if trial.state is TrialState.DONE]
    assert agent.best == max(done_, key=lambda trial: trial.values["accuracy"])
    over = max(trial.values["accuracy"] for trial in history if trial.state is TrialState.INFEASIBLE)
    assert over > agent.best.values["accuracy"]
    at_the_end_of_the_walk = max(t.values["accuracy"] for t in done_ if t.number <= agent.walk_ends)
    assert agent.best.values["accuracy"] > at_the_end_of_the_walk


@pytest.mark.parametrize(("option", "value"), [("walk", 0), ("walk", 1.1), ("strength", True), ("strength", "x")])
def test_senseless_options_are_refused(option, value):
    with pytest.raises(AgentError, match=f"option '{option}': expected a number in .0, 1., got {value!r}"):
        create(toy_problem(), **{option: value})


def test_netadapt_beats_random_search_at_equal_evaluations():
    """One-sided Mann-Whitney U over ten fixed seeds on the best value found, alpha = 0.01; no chance is left in it."""
    problem, trials = toy_problem(), 80

    def best(name, seed):
        history = play(create(problem, name, seed, trials), problem, trials)
        return max(trial.values["accuracy"] for trial in history if trial.state is TrialState.DONE)

    values = {name: [best(name, seed) for seed in range(10)] for name in ("netadapt", "random")}
    assert mannwhitneyu(values["netadapt"], values["random"], alternative="greater").pvalue < 0.01, values


def test_the_order_in_which_candidates_finish_does_not_matter():
    problem = toy_problem()
    alone, together = create(problem), create(problem)
    for _ in range(3):
        points = alone.ask(20, [])
        assert points == together.ask(20, [])
        told = [finished(alone.told + n, point, problem) for n, point in enumerate(points)]
        alone.tell(told)
        together.tell(told[::-1])
        assert alone.base == together.base
