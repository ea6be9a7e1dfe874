"""Every registered agent passes the kit."""

import re
from pathlib import Path

import agents
from agents.amc import PAPER
from automl.testing.agent_kit import AgentConformance, seeds_differ_after


class TestUniform(AgentConformance):
    agent_name = "uniform"


class TestGates(AgentConformance):
    agent_name = "gates"


class TestRandom(AgentConformance):
    agent_name = "random"


class TestAmc(AgentConformance):
    agent_name = "amc"
    options = {"hidden": 32}
    test_seeds_differ = seeds_differ_after(1)


class TestAmcWarm(AgentConformance):
    agent_name = "amc_warm"
    options = {"hidden": 32}
    test_seeds_differ = seeds_differ_after(1)


class TestAmcOfThePaper(AgentConformance):
    agent_name = "amc"
    options = PAPER | {"hidden": 32}


class TestAmcWithoutNoise(AgentConformance):
    """A policy that repeats itself unless the agent sees to it."""

    agent_name = "amc"
    options = PAPER | {"warmup": 1, "noise": 0.0, "hidden": 32, "updates_per_step": 2}

    def test_seeds_differ(self, problem):
        networks = [self.create(problem, seed).ddpg.actor.first.weight for seed in range(2)]
        assert not networks[0].equal(networks[1])


def test_every_registered_agent_runs_the_kit():
    """Here or in a file of its own; read from the sources, since one file may be run alone."""
    sources = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*.py"))
    assert set(re.findall(r'^    agent_name = "(\w+)"', sources, re.MULTILINE)) == set(agents.names())
