"""What may be chosen: spaces of architectures and compression ratios, and the surgery behind them."""

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
