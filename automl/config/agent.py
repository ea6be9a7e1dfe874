"""Which agent chooses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from automl.config.walk import NOT_IN_FILES

DEPTH_AGENT = "bo"
"""Where an agent that starts from error curves is no default: of removed blocks there are none."""

CELLS_AGENT = "predictor"
"""In a space of cells, whose choices have no order of cost."""


@dataclass(frozen=True)
class AgentConfig:
    """How to choose."""

    name: str = "amc_warm"
    """Where none is named it is this one, `bo` in a space of depth, and `predictor` in one of cells; or `module:Class`
    of your own, a subclass of `agents.NumberedAgent`, looked for beside the study file."""
    options: Mapping[str, Any] = field(default_factory=dict, metadata=NOT_IN_FILES)
    """The agent's own; in a study file they stand beside its name."""
