"""Agents by name: nearest names, options checked, nothing heavy loaded before it is needed."""

import subprocess
import sys

import pytest

import agents
from agents import AgentError, Goal, Trial
from automl.testing.toy_space import toy_problem
from search_spaces import InfeasibleBudgetError, SpaceError
from tests.kits.packages import recorded

GOAL = Goal("accuracy", "maximize")


def create(name="amc", **changes):
    problem = toy_problem()
    arguments = {"space": problem.space, "goal": GOAL, "limits": problem.limits, "seed": 0, "trials": 8}
    return agents.create(name, **arguments | changes)


def test_an_unknown_agent_offers_the_nearest():
    with pytest.raises(AgentError, match=r"'acm' \(did you mean 'amc'\?\): there are uniform, random, amc"):
        create("acm")


def test_an_unknown_option_offers_the_nearest():
    with pytest.raises(AgentError, match=r"no option 'warm_up' \(did you mean 'warmup'\?\)"):
        create(warm_up=3)
    with pytest.raises(AgentError, match="'uniform' has no option 'warmup': it has no options"):
        create("uniform", warmup=3)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("warmup", -1),
        ("warmup", 2.5),
        ("hidden", 0),
        ("hidden", None),
        ("noise", -0.1),
        ("noise", "much"),
        ("noise_decay", 1.5),
        ("tau", float("nan")),
        ("discount", True),
        ("actor_lr", float("inf")),
        ("replay_size", 0),
    ],
)
def test_a_senseless_option_names_itself_and_what_came(option, value):
    with pytest.raises(AgentError, match=rf"option '{option}': expected .*, got {value!r}"):
        create(**{option: value})


def test_options_can_be_checked_without_a_space():
    agents.check_options("amc", {"warmup": 4, "noise_decay": None})
    with pytest.raises(AgentError, match="did you mean 'noise'"):
        agents.check_options("amc", {"nois": 1})


def test_senseless_arguments_are_refused():
    with pytest.raises(AgentError, match="at least 1 trial, got 0"):
        create(trials=0)
    with pytest.raises(AgentError, match="seed of 0 or more, got -1"):
        create(seed=-1)


@pytest.mark.parametrize("name", agents.names())
def test_a_budget_nothing_can_meet_is_refused_at_once(name):
    with pytest.raises(InfeasibleBudgetError, match="the smallest has"):
        create(name, limits={"macs": 10.0})
    with pytest.raises(SpaceError, match="no budget on 'watts'"):
        create(name, limits={"watts": 10.0})


def test_a_running_trial_cannot_be_told():
    agent = create("random")
    with pytest.raises(AgentError, match="trial 0 is still running"):
        agent.tell([Trial(0, agent.ask(1, [])[0])])


def test_importing_agents_loads_no_agent():
    loaded = "import agents, sys; print(*[m for m in sys.modules if m in ('agents.amc', 'agents.ddpg', 'scipy')])"
    assert subprocess.check_output([sys.executable, "-c", loaded], text=True).strip() == ""


def test_an_installed_package_gives_its_agent_a_name_but_never_that_of_one_of_ours(tmp_path, monkeypatch):
    offered = {"walker": "agents.random_search:RandomSearch", "amc": "agents.uniform:Uniform"}
    recorded(tmp_path, "walkers", {"automl.agents": offered})
    monkeypatch.syspath_prepend(tmp_path)
    assert agents.names().count("amc") == 1 and agents.names()[-1] == "walker"
    agents.check_options("walker", {})
    assert agents.options("amc").__module__ == "agents.amc"
