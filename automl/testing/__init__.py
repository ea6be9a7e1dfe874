"""What extensions are tested by: subclass a kit, name what it tests, and pytest collects the tests. Needs pytest."""

from automl.testing.agent_kit import AgentConformance
from automl.testing.backend_kit import BackendConformance
from automl.testing.format_kit import FormatConformance
from automl.testing.kind_kit import KindConformance
from automl.testing.method_kit import MethodConformance
from automl.testing.toy_space import ToyAccuracy, ToySpace, toy_problem

__all__ = [
    "AgentConformance",
    "BackendConformance",
    "FormatConformance",
    "KindConformance",
    "MethodConformance",
    "ToyAccuracy",
    "ToySpace",
    "toy_problem",
]
