"""What extensions are tested by: subclass a kit, name what it tests, and pytest collects the tests. Needs pytest."""

from automl.testing.agent_kit import AgentConformance
from automl.testing.toy_space import ToyAccuracy, ToySpace, toy_problem

__all__ = ["AgentConformance", "ToyAccuracy", "ToySpace", "toy_problem"]
