"""Every registered agent passes the kit."""

import agents
from tests.kits.agents import AgentConformance


class TestUniform(AgentConformance):
    agent_name = "uniform"


class TestRandom(AgentConformance):
    agent_name = "random"


class TestAmc(AgentConformance):
    agent_name = "amc"
    options = {"hidden": 64}


class TestAmcWithoutNoise(AgentConformance):
    """A policy that repeats itself unless the agent sees to it."""

    agent_name = "amc"
    options = {"warmup": 1, "noise": 0.0, "hidden": 32, "updates_per_step": 2}

    def test_seeds_differ(self, problem):
        networks = [self.create(problem, seed).ddpg.actor.first.weight for seed in range(2)]
        assert not networks[0].equal(networks[1])


def test_every_registered_agent_runs_the_kit():
    assert {kit.agent_name for kit in AgentConformance.__subclasses__()} == set(agents.names())
