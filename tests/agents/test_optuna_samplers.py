"""Optuna's samplers: what they are told, that their own state survives a replay, and that they beat random search."""

import json
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

import agents
from agents import AgentError, Goal, Trial, TrialState
from automl.testing.agent_kit import AgentConformance, play
from automl.testing.toy_space import ToyAccuracy, ToySpace, toy_problem
from tests.kits.front_area import dominated_area

GOAL = Goal("accuracy", "maximize")
SAMPLERS = ("tpe", "cmaes", "nsga2")


def create(problem, name, seed=0, trials=40, limits=None, **options):
    limits = problem.limits if limits is None else limits
    return agents.create(name, space=problem.space, goal=GOAL, limits=limits, seed=seed, trials=trials, **options)


class TestTpe(AgentConformance):
    agent_name = "tpe"
    options = {"startup": 4}


class TestCmaEs(AgentConformance):
    agent_name = "cmaes"
    options = {"population": 4}


class TestNsga2(AgentConformance):
    """A front has points below the budget."""

    agent_name = "nsga2"
    options = {"population": 4}
    fills_budget = False


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_study_holds_what_was_executed(name):
    problem = toy_problem()
    agent = create(problem, name)
    history = play(agent, problem, 20)
    trials = agent.study.get_trials()
    assert len(trials) == 20
    for told, known in zip(history, trials, strict=True):
        assert list(known.params.values()) == problem.space.encode(told.point).tolist()
        assert known.values[0] == told.values["accuracy"]
        assert known.state.name == "COMPLETE"


def test_a_minimised_metric_enters_as_utility():
    problem = toy_problem()
    agent = agents.create(
        "tpe", space=problem.space, goal=Goal("loss", "minimize"), limits=problem.limits, seed=0, trials=8
    )
    agent.tell([Trial(0, agent.ask(1, [])[0], TrialState.DONE, {"loss": 0.25})])
    assert agent.study.best_value == -0.25


@pytest.mark.parametrize("name", SAMPLERS)
def test_stopped_trials_count_and_infeasible_and_failed_ones_do_not(name):
    problem = toy_problem()
    agent = create(problem, name)
    points = agent.ask(3, [])
    agent.tell([Trial(0, points[0], TrialState.INFEASIBLE, {"accuracy": 0.99}, "measured too slow")])
    agent.tell([Trial(1, points[1], TrialState.STOPPED, {"accuracy": 0.2}, "lost the race")])
    agent.tell([Trial(2, points[2], TrialState.FAILED, {}, "out of memory")])
    assert [trial.values[0] for trial in agent.study.get_trials()] == [0.2]


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_study_where_everything_fails_goes_on(name):
    problem = toy_problem()
    agent = create(problem, name, trials=30)
    for number in range(30):
        agent.tell([Trial(number, agent.ask(1, [])[0], TrialState.FAILED)])
    assert agent.study.get_trials() == []
    assert len(agent.ask(3, [])) == 3


@pytest.mark.parametrize("name", SAMPLERS)
def test_nothing_is_tried_twice(name):
    problem = toy_problem()
    history = play(create(problem, name, trials=60), problem, 60)
    assert len({trial.point for trial in history}) == len(history) == 60


def test_startup_trials_of_tpe_are_random_search():
    problem = toy_problem()
    tpe, random = create(problem, "tpe", startup=5), create(problem, "random")
    agree = [a.point == b.point for a, b in zip(play(tpe, problem, 8), play(random, problem, 8), strict=True)]
    assert agree == [True] * 5 + [False] * 3


def test_running_trials_keep_tpe_away():
    """The constant liar: what TPE says next depends on what is running, in whatever order that is given."""
    problem = toy_problem()
    agent = create(problem, "tpe", startup=4)
    play(agent, problem, 12)
    running = [Trial(12 + n, point) for n, point in enumerate(agent.ask(3, []))]
    elsewhere = [Trial(12 + n, point) for n, point in enumerate(create(problem, "random", seed=9).ask(3, []))]
    assert agent.ask(1, running) == agent.ask(1, running[::-1])
    assert agent.ask(1, running) != agent.ask(1, elsewhere)


def test_cma_es_starts_around_the_uniform_point():
    """Before anything is told, 200 seeds draw Points whose keep fractions are those of the uniform one on average."""
    problem = ToyAccuracy(ToySpace(), (0.6,) * 6, (1.0,) * 6)
    space = problem.space
    drawn = [space.encode(create(problem, "cmaes", seed=seed).ask(1, [])[0]) for seed in range(200)]
    uniform = space.encode(space.project(np.ones(6), problem.limits))
    assert np.abs(np.mean(drawn, axis=0) - uniform).max() < 0.06
    assert 0.05 < np.std(drawn, axis=0).mean() < 0.25


def test_generations_follow_each_other_and_carry_the_samplers_state():
    problem = toy_problem()
    for name, key in (("cmaes", "cma:generation"), ("nsga2", "NSGAIISampler:generation")):
        agent = create(problem, name, population=5)
        play(agent, problem, 20)
        trials = agent.study.get_trials()
        assert [trial.system_attrs[key] for trial in trials] == [n // 5 for n in range(20)]
        if name == "cmaes":
            assert [n for n, t in enumerate(trials) if "cma:optimizer:0" in t.system_attrs] == [5, 10, 15]


def test_cma_es_narrows():
    """What is drawn late lies closer together than what is drawn first; seed fixed."""
    problem = toy_problem()
    history = play(create(problem, "cmaes", trials=150), problem, 150)
    encoded = np.array([problem.space.encode(trial.point) for trial in history])
    assert encoded[-20:].std(axis=0).mean() < 0.6 * encoded[:20].std(axis=0).mean()


def test_nsga2_leaves_below_the_budget_what_is_below_and_knows_the_load():
    problem = toy_problem()
    space, limit = problem.space, problem.limits["macs"]
    agent = create(problem, "nsga2", trials=60, population=10)
    history = play(agent, problem, 60)
    loads = np.array([space.cost(trial.point, "macs") / limit for trial in history])
    assert [trial.values[1] for trial in agent.study.get_trials()] == pytest.approx(loads.tolist())
    assert (loads[:10] > 0.97).all()  # random Points on the budget
    assert loads.max() <= 1 and loads.min() < 0.8
    low = space.lowest / [knob.size for knob in space.knobs]
    assert agent.legal(low) == space.point(space.lowest.tolist())
    assert agent.legal(np.ones(6)) == space.project(np.ones(6), problem.limits)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("space", [ToySpace((64,), (1,)), ToySpace((4, 4), (1, 1), min_keep=1.0)])
def test_one_variable_or_none_will_do(name, space):
    problem = ToyAccuracy(space, (0.5,) * len(space.knobs), (1.0,) * len(space.knobs))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        history = play(create(problem, name, limits={}), problem, 8, limits={})
    assert len(history) == (8 if len(space.knobs) == 1 else 1)


def test_optuna_says_nothing_and_its_logging_stays_as_it_was(capfd):
    import optuna

    before = optuna.logging.get_verbosity()
    problem = toy_problem()
    for name in SAMPLERS:
        play(create(problem, name), problem, 8)
    assert "".join(capfd.readouterr()) == ""
    assert optuna.logging.get_verbosity() == before == logging.INFO


def proposals():
    """What each sampler says after 14 trials told and with three running, as keys."""
    problem, out = toy_problem(), []
    for name in SAMPLERS:
        agent = create(problem, name, seed=3, trials=20)
        play(agent, problem, 14)
        running = [Trial(14 + n, point) for n, point in enumerate(agent.ask(3, []))]
        out += [trial.point.key for trial in running] + [agent.ask(1, running)[0].key]
    return out


def test_another_process_says_the_same():
    """Hashes of names, and with them the order of sets, differ between processes."""
    code = "import json, test_optuna_samplers as here; print(json.dumps(here.proposals()))"
    folder = Path(__file__).resolve().parent
    path = os.pathsep.join([str(folder), str(folder.parents[1])])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "1"}
    said = subprocess.check_output([sys.executable, "-c", code], text=True, env=environment)
    assert json.loads(said) == proposals()


@pytest.mark.parametrize(
    ("name", "option", "value", "least"),
    [
        ("tpe", "startup", 0, 1),
        ("tpe", "candidates", None, 1),
        ("cmaes", "population", 2, 3),
        ("nsga2", "population", 1, 2),
    ],
)
def test_senseless_options_are_refused(name, option, value, least):
    with pytest.raises(AgentError, match=f"option '{option}': expected an integer >= {least}, got {value}"):
        create(toy_problem(), name, **{option: value})


@pytest.mark.parametrize("name", ["tpe", "cmaes"])
def test_it_beats_random_search_at_equal_evaluations(name):
    """One-sided Mann-Whitney U over eight seeds on the best value found, alpha = 0.05; fixed seeds, so no chance."""
    problem, trials = toy_problem(), 80
    best = {
        agent: [
            max(trial.values["accuracy"] for trial in play(create(problem, agent, seed, trials), problem, trials))
            for seed in range(8)
        ]
        for agent in (name, "random")
    }
    assert mannwhitneyu(best[name], best["random"], alternative="greater").pvalue < 0.05, best


def test_the_front_of_nsga2_beats_that_of_random_points():
    """Its rivals are uniform keep fractions, projected where they are over the budget, as its own suggestions are.

    One-sided Mann-Whitney U over eight seeds on the area that 80 Points dominate, alpha = 0.05; fixed seeds.
    """
    problem, trials = toy_problem(), 80
    areas = {"nsga2": [], "random": []}
    for seed in range(8):
        agent, rng = create(problem, "nsga2", seed, trials), np.random.default_rng(seed)
        areas["random"].append(dominated_area(problem, [agent.legal(rng.uniform(0.1, 1, 6)) for _ in range(trials)]))
        areas["nsga2"].append(dominated_area(problem, [trial.point for trial in play(agent, problem, trials)]))
    assert mannwhitneyu(areas["nsga2"], areas["random"], alternative="greater").pvalue < 0.05, areas
