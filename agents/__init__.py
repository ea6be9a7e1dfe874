"""How to choose: search agents that are asked for Points and told what came of them."""

from typing import TYPE_CHECKING, Any

from agents.errors import AgentError
from agents.registry import (
    check_options,
    create,
    is_own,
    learns_widths,
    names,
    options,
    planned,
    sound_names,
    takes_choices,
    uses_sensitivity,
)
from agents.types import Agent, ErrorCurves, Goal, Sensitivity, Task, Trial, TrialState, trials_of_use

if TYPE_CHECKING:
    from agents.base import NumberedAgent

DISTRIBUTION = "automl-compress"
"""Marks this package as ours; `automl` checks it on import."""

__all__ = [
    "DISTRIBUTION",
    "Agent",
    "AgentError",
    "ErrorCurves",
    "Goal",
    "NumberedAgent",
    "Sensitivity",
    "Task",
    "Trial",
    "TrialState",
    "check_options",
    "create",
    "is_own",
    "learns_widths",
    "names",
    "options",
    "planned",
    "sound_names",
    "takes_choices",
    "trials_of_use",
    "uses_sensitivity",
]


def __getattr__(name: str) -> Any:
    """Load what agents are made of on first use: reading the record need not wait for NumPy."""
    if name == "NumberedAgent":
        from agents.base import NumberedAgent

        return NumberedAgent
    raise AttributeError(f"module 'agents' has no attribute {name!r}")
