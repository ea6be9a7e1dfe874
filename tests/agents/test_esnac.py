"""ESNAC: the closed form is the brute force, a padded batch is one by one, kernels learn and differ."""

from tests.kits.agents import AgentConformance


class TestEsnac(AgentConformance):
    agent_name = "esnac"
    options = {"startup": 10, "candidates": 64, "steps": 3, "hidden": 4}
