"""What may be chosen: spaces of architectures and compression ratios, and the surgery behind them."""

from search_spaces.errors import InfeasibleBudgetError, SpaceError, TraceError
from search_spaces.graph.groups import Fixed, Group, Member
from search_spaces.graph.recorded import Cut, LayerSlice, Recorded
from search_spaces.graph.trace import trace
from search_spaces.operators.base import Operator
from search_spaces.operators.channels import Channels, ChannelsStep
from search_spaces.operators.code import Code, CodeStep
from search_spaces.operators.depth import Depth, DepthStep
from search_spaces.operators.rank import Rank, RankStep
from search_spaces.operators.registry import OPERATORS
from search_spaces.operators.sparsity import Sparsity, SparsityStep
from search_spaces.operators.step import Step
from search_spaces.plan import Builds, Plan
from search_spaces.rebuild import rebuild
from search_spaces.spaces.conditional import ConditionalSpace
from search_spaces.spaces.network import NetworkSpace, channel_space, depth_space, weight_space
from search_spaces.spaces.wall import CostedSpace
from search_spaces.types import Knob, Point, Space

DISTRIBUTION = "automl-compress"
"""Marks this package as ours; `automl` checks it on import."""

__all__ = [
    "DISTRIBUTION",
    "OPERATORS",
    "Builds",
    "Channels",
    "ChannelsStep",
    "Code",
    "CodeStep",
    "ConditionalSpace",
    "CostedSpace",
    "Cut",
    "Depth",
    "DepthStep",
    "Fixed",
    "Group",
    "InfeasibleBudgetError",
    "Knob",
    "LayerSlice",
    "Member",
    "NetworkSpace",
    "Operator",
    "Plan",
    "Point",
    "Rank",
    "RankStep",
    "Recorded",
    "Space",
    "SpaceError",
    "Sparsity",
    "SparsityStep",
    "Step",
    "TraceError",
    "channel_space",
    "depth_space",
    "rebuild",
    "trace",
    "weight_space",
]
