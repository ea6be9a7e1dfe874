"""What may be chosen: spaces of architectures and compression ratios, and the surgery behind them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search_spaces.cells.architecture import Architecture, Frame, Stage
    from search_spaces.cells.cell_network import network_of
    from search_spaces.cells.cells_step import CellsStep
    from search_spaces.cells.references import REFERENCES
    from search_spaces.cells.scales import Scales
    from search_spaces.errors import InfeasibleBudgetError, SpaceError, TraceError
    from search_spaces.graph.groups import Fixed, Group, Member
    from search_spaces.graph.recorded import Cut, LayerSlice, Recorded
    from search_spaces.graph.trace import trace
    from search_spaces.offered import Offered, offered_names
    from search_spaces.operators.base import Operator
    from search_spaces.operators.channels import Channels, ChannelsStep
    from search_spaces.operators.code import Code, CodeStep
    from search_spaces.operators.depth import Depth, DepthStep
    from search_spaces.operators.rank import Rank, RankStep
    from search_spaces.operators.registry import OPERATORS
    from search_spaces.operators.sparsity import Sparsity, SparsityStep
    from search_spaces.operators.step import Step
    from search_spaces.plan import Builds, Plan, Searched
    from search_spaces.pricing.metrics import OfSheet
    from search_spaces.replay import from_nothing, rebuild
    from search_spaces.spaces.cells import CellSpace, StageOptions
    from search_spaces.spaces.choices import AdditiveSpace, ChoiceSpace
    from search_spaces.spaces.conditional import ConditionalSpace
    from search_spaces.spaces.network import NetworkSpace
    from search_spaces.spaces.of_one_kind import channel_space, depth_space, weight_space
    from search_spaces.spaces.pyramid import pyramid
    from search_spaces.spaces.supernet import Supernet, supernet
    from search_spaces.spaces.wall import CostedSpace
    from search_spaces.types import Knob, Point, Space

DISTRIBUTION = "automl-compress"
"""Marks this package as ours; `automl` checks it on import."""

_HOMES = {
    "Architecture": "cells.architecture",
    "Frame": "cells.architecture",
    "Stage": "cells.architecture",
    "network_of": "cells.cell_network",
    "REFERENCES": "cells.references",
    "CellsStep": "cells.cells_step",
    "Scales": "cells.scales",
    "InfeasibleBudgetError": "errors",
    "SpaceError": "errors",
    "TraceError": "errors",
    "Fixed": "graph.groups",
    "Group": "graph.groups",
    "Member": "graph.groups",
    "Cut": "graph.recorded",
    "LayerSlice": "graph.recorded",
    "Recorded": "graph.recorded",
    "trace": "graph.trace",
    "Offered": "offered",
    "offered_names": "offered",
    "Operator": "operators.base",
    "Channels": "operators.channels",
    "ChannelsStep": "operators.channels",
    "Code": "operators.code",
    "CodeStep": "operators.code",
    "Depth": "operators.depth",
    "DepthStep": "operators.depth",
    "Rank": "operators.rank",
    "RankStep": "operators.rank",
    "OPERATORS": "operators.registry",
    "Sparsity": "operators.sparsity",
    "SparsityStep": "operators.sparsity",
    "Step": "operators.step",
    "Builds": "plan",
    "Plan": "plan",
    "Searched": "plan",
    "from_nothing": "replay",
    "rebuild": "replay",
    "CellSpace": "spaces.cells",
    "StageOptions": "spaces.cells",
    "AdditiveSpace": "spaces.choices",
    "ChoiceSpace": "spaces.choices",
    "ConditionalSpace": "spaces.conditional",
    "NetworkSpace": "spaces.network",
    "OfSheet": "pricing.metrics",
    "channel_space": "spaces.of_one_kind",
    "depth_space": "spaces.of_one_kind",
    "pyramid": "spaces.pyramid",
    "Supernet": "spaces.supernet",
    "supernet": "spaces.supernet",
    "weight_space": "spaces.of_one_kind",
    "CostedSpace": "spaces.wall",
    "Knob": "types",
    "Point": "types",
    "Space": "types",
}
"""Name -> the module that has it, loaded when the name is first asked for: most of them load torch."""

__all__ = [
    "DISTRIBUTION",
    "OPERATORS",
    "REFERENCES",
    "AdditiveSpace",
    "Architecture",
    "Builds",
    "CellSpace",
    "CellsStep",
    "Channels",
    "ChannelsStep",
    "ChoiceSpace",
    "Code",
    "CodeStep",
    "ConditionalSpace",
    "CostedSpace",
    "Cut",
    "Depth",
    "DepthStep",
    "Fixed",
    "Frame",
    "Group",
    "InfeasibleBudgetError",
    "Knob",
    "LayerSlice",
    "Member",
    "NetworkSpace",
    "OfSheet",
    "Offered",
    "Operator",
    "Plan",
    "Point",
    "Rank",
    "RankStep",
    "Recorded",
    "Scales",
    "Searched",
    "Space",
    "SpaceError",
    "Sparsity",
    "SparsityStep",
    "Stage",
    "StageOptions",
    "Step",
    "Supernet",
    "TraceError",
    "channel_space",
    "depth_space",
    "from_nothing",
    "network_of",
    "offered_names",
    "pyramid",
    "rebuild",
    "supernet",
    "trace",
    "weight_space",
]


def __getattr__(name: str) -> Any:
    """Load what this package exports on first use, so that what needs no network does not wait for torch."""
    if name in _HOMES:
        return getattr(import_module(f"search_spaces.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'search_spaces' has no attribute {name!r}")
