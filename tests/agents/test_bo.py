"""Bayesian optimisation: what is pending, what is encoded, what is learnt, and that it pays."""

from tests.kits.agents import AgentConformance


class TestBo(AgentConformance):
    agent_name = "bo"
    options = {"startup": 12, "candidates": 64}
