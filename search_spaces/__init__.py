"""What may be chosen: spaces of architectures and compression ratios, and the surgery behind them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search_spaces.errors import InfeasibleBudgetError, SpaceError, TraceError
    from search_spaces.graph.groups import Fixed, Group, Member
    from search_spaces.graph.recorded import Blueprint, LayerSlice
    from search_spaces.graph.trace import trace
    from search_spaces.spaces.channels import ChannelSpace
    from search_spaces.spaces.conditional import ConditionalSpace
    from search_spaces.spaces.depth import DepthSpace
    from search_spaces.spaces.wall import CostedSpace
    from search_spaces.spaces.weights import WeightSpace
    from search_spaces.types import Knob, Plan, Point, Space

DISTRIBUTION = "automl-compress"
"""Marks this package as ours; `automl` checks it on import."""

_HOMES = {
    "InfeasibleBudgetError": "errors",
    "SpaceError": "errors",
    "TraceError": "errors",
    "Fixed": "graph.groups",
    "Group": "graph.groups",
    "Member": "graph.groups",
    "Blueprint": "graph.recorded",
    "LayerSlice": "graph.recorded",
    "trace": "graph.trace",
    "ChannelSpace": "spaces.channels",
    "ConditionalSpace": "spaces.conditional",
    "DepthSpace": "spaces.depth",
    "CostedSpace": "spaces.wall",
    "WeightSpace": "spaces.weights",
    "Knob": "types",
    "Plan": "types",
    "Point": "types",
    "Space": "types",
}
"""Name -> the module that has it, loaded when the name is first asked for: most of them load torch."""

__all__ = [
    "DISTRIBUTION",
    "Blueprint",
    "ChannelSpace",
    "ConditionalSpace",
    "CostedSpace",
    "DepthSpace",
    "Fixed",
    "Group",
    "InfeasibleBudgetError",
    "Knob",
    "LayerSlice",
    "Member",
    "Plan",
    "Point",
    "Space",
    "SpaceError",
    "TraceError",
    "WeightSpace",
    "trace",
]


def __getattr__(name: str) -> Any:
    """Load what this package exports on first use, so that what needs no network does not wait for torch."""
    if name in _HOMES:
        return getattr(import_module(f"search_spaces.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'search_spaces' has no attribute {name!r}")
