"""N2N: two policies learn from what was executed, the budget is kept."""

from tests.kits.agents import AgentConformance


class TestN2n(AgentConformance):
    agent_name = "n2n"
    options = {"rollouts": 2, "hidden": 8, "layers": 1}
