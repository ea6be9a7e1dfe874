"""Which agent chooses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import agents
from automl.config.walk import NOT_IN_FILES
from automl.errors import ConfigError

DEPTH_AGENT = "bo"
"""Where layers can go: errors of removed blocks do not add up as an allocation has it. It tries the allocation second,
and learns from there."""

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

    def require(self) -> None:
        """Raise `ConfigError` unless the agent exists and takes its options; code of the user's own is run for that."""
        try:
            agents.check_options(self.name, self.options)
        except agents.AgentError as error:
            raise ConfigError(str(error)) from None
