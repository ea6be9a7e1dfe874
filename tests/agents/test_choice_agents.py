"""Every agent that takes choices passes the kit on a space of them; the others say that they cannot."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

import agents
from agents import AgentError, Goal
from agents.bayesian import Columns, Regression
from agents.predictor import warped
from agents.random_search import random_point
from agents.surrogate import standardised
from automl.testing.agent_kit import AgentConformance, done, play
from search_spaces import AdditiveSpace, Knob
from tests.kits.choice_agents import ChoiceConformance
from tests.kits.toy_choices import ToyChoiceAccuracy, ToyChoiceSpace

GOAL = Goal("accuracy", "maximize")
REFUSED = ("amc", "amc_warm", "gates", "allocation", "exact", "thompson", "netadapt", "cmaes", "n2n", "layer_by_layer")


class TestLocalSearch(AgentConformance):
    agent_name = "local_search"


class TestController(AgentConformance):
    agent_name = "controller"


class TestPredictor(AgentConformance):
    agent_name = "predictor"
    options = {"startup": 5, "candidates": 40}


class TestRandomOfChoices(ChoiceConformance):
    agent_name = "random"


class TestEvolutionOfChoices(ChoiceConformance):
    agent_name = "evolution"
    options = {"population": 4}


class TestTpeOfChoices(ChoiceConformance):
    agent_name = "tpe"
    options = {"startup": 4}


class TestNsga2OfChoices(ChoiceConformance):
    agent_name = "nsga2"
    options = {"population": 4}
    fills_budget = False


class TestLocalSearchOfChoices(ChoiceConformance):
    agent_name = "local_search"


class TestControllerOfChoices(ChoiceConformance):
    agent_name = "controller"


class TestPredictorOfChoices(ChoiceConformance):
    agent_name = "predictor"
    options = {"startup": 4, "candidates": 40}


def create(name, limits=None, seed=0, trials=8, **options):
    return agents.create(
        name, space=ToyChoiceSpace(), goal=GOAL, limits=limits or {}, seed=seed, trials=trials, **options
    )


@pytest.mark.parametrize("name", REFUSED)
def test_an_agent_that_needs_an_order_says_so(name):
    with pytest.raises(
        AgentError, match=f"agent '{name}' needs .* an order of cost, and 'kind0' is a choice of none, "
    ):
        create(name)


@pytest.mark.parametrize("name", ["uniform", "bo", "esnac"])
def test_slow_and_single_agents_take_choices_too(name):
    point = create(name, **({} if name == "uniform" else {"startup": 2, "candidates": 20})).ask(1, [])[0]
    assert point.keys() == {knob.name for knob in ToyChoiceSpace().knobs}


def test_local_search_stays_until_no_neighbour_is_better_and_then_begins_anew():
    agent, problem = create("local_search"), ToyChoiceAccuracy(ToyChoiceSpace())
    best, restarts = None, 0
    for number in range(120):
        (point,) = agent.ask(1, [])
        if best is not None:
            assert point in set(agent.neighbours(best.point)), "it looks around the best since the last start"
        agent.tell([done(number, point, problem(point))])
        restarts += best is not None and agent.current is None
        best = agent.current
    assert restarts >= 1


def test_a_controller_learns_the_better_level_of_each_knob():
    problem = ToyChoiceAccuracy(ToyChoiceSpace())
    controller = create("controller", trials=200, lr=0.1)
    drawn = [np.mean([problem(controller.walk(np.random.default_rng(s))) for s in range(60)])]
    play(controller, problem, 150, limits={})
    drawn.append(np.mean([problem(controller.walk(np.random.default_rng(s))) for s in range(60)]))
    assert drawn[1] > drawn[0] + 0.05
    assert 0 < controller.diagnostics()["entropy"] < 0.9


@pytest.mark.parametrize(("option", "value"), [("lr", -1), ("decay", 1.0), ("entropy", "much")])
def test_senseless_options_of_a_controller_are_refused(option, value):
    with pytest.raises(AgentError, match=f"option '{option}': expected a number in .*, got {value!r}"):
        create("controller", **{option: value})


def test_a_prediction_is_near_what_is_known_and_unsure_where_nothing_is():
    space, rng = ToyChoiceSpace(), np.random.default_rng(0)
    problem, columns = ToyChoiceAccuracy(space), Columns(space)
    points = list(dict.fromkeys(random_point(space, {}, rng) for _ in range(80)))
    values = np.array(standardised([problem(point) for point in points]))
    model = Regression(columns(points[:40]), values[:40])
    mean, covariance = model(columns(points))
    assert np.corrcoef(mean[40:], values[40:])[0, 1] > 0.8
    assert np.diag(covariance)[40:].mean() > 1.2 * np.diag(covariance)[:40].mean() > 0


def test_a_draw_is_one_function_whenever_it_is_asked():
    agent, problem = create("predictor", startup=5, trials=30), ToyChoiceAccuracy(ToyChoiceSpace())
    play(agent, problem, 12, limits={})
    rng = np.random.default_rng(1)
    points = list(dict.fromkeys(random_point(agent.space, {}, rng) for _ in range(20)))
    draw = agent.acquisition(12, [], np.random.default_rng(2))
    first = draw(points[:10])
    assert np.array_equal(draw([*points, *points[:10]])[-10:], first)
    mean, covariance = agent.model()(agent.columns(points))
    drawn = np.array([agent.acquisition(12, [], np.random.default_rng(s))(points) for s in range(200)])
    assert drawn.mean(axis=0) == pytest.approx(mean, abs=0.3) and np.cov(drawn.T) == pytest.approx(covariance, abs=0.3)


def test_the_warp_keeps_the_order_and_lets_no_outlier_count_for_all():
    z = warped([0.1, 0.5, 0.9, 0.91, 0.92])
    assert (np.diff(z) > 0).all() and z.mean() == pytest.approx(0) and z.std() == pytest.approx(1)
    assert np.array_equal(z, warped([-99.0, 0.5, 0.9, 0.91, 0.92])) and warped([1.0, 1.0, 2.0])[0] == pytest.approx(
        -(0.5**0.5)
    )
    assert not warped([0.5, 0.5, 0.5]).any()


def test_the_predictor_beats_random_search_at_equal_evaluations():
    """One-sided Mann-Whitney U over ten fixed seeds on the best value found, alpha = 0.01; no chance is left in it."""
    knobs = [Knob(f"edge{t}", (0, 1, 2, 3), "choice", kind="choice") for t in range(6)]
    space = AdditiveSpace(knobs, {"macs": 0.0}, {"macs": [np.arange(4.0)] * 6})
    worth = np.random.default_rng(0).normal(size=(6, 4))

    def accuracy(point):
        return float(sum(worth[t, level] for t, level in enumerate(point.values())))

    def best(name, seed):
        options = {"candidates": 60, "startup": 5} if name == "predictor" else {}
        agent = agents.create(name, space=space, goal=GOAL, limits={}, seed=seed, trials=24, **options)
        values = []
        for number in range(24):
            (point,) = agent.ask(1, [])
            values.append(accuracy(point))
            agent.tell([done(number, point, values[-1])])
        return max(values)

    found = {name: [best(name, seed) for seed in range(10)] for name in ("predictor", "random")}
    assert mannwhitneyu(found["predictor"], found["random"], alternative="greater").pvalue < 0.01, found


def test_every_agent_is_on_one_of_these_lists():
    sources = Path(__file__).read_text()
    tried = {*re.findall(r'^    agent_name = "(\w+)"', sources, re.MULTILINE), *REFUSED, "uniform", "bo", "esnac"}
    assert tried == set(agents.names())
