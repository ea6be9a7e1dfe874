"""The names that a key may have as its value: of built-in networks, data sets and agents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import agents
from automl import data, zoo
from automl.config.agent import AgentConfig
from automl.config.model import DataConfig, ModelConfig
from automl.config.study import StudyConfig
from automl.config.training import OPTIMIZERS, SCHEDULES, TrainingOptions


@dataclass(frozen=True)
class Names:
    """The names that the program knows."""

    known: Callable[[], list[str]]
    or_yours: bool = False
    """Whether `module:function`, of the user's own, is a name too."""


NAMES = {
    (ModelConfig, "name"): Names(zoo.names, or_yours=True),
    (DataConfig, "name"): Names(data.names, or_yours=True),
    (TrainingOptions, "optimizer"): Names(lambda: list(OPTIMIZERS), or_yours=True),
    (TrainingOptions, "schedule"): Names(lambda: list(SCHEDULES), or_yours=True),
    (AgentConfig, "name"): Names(agents.names),
    (StudyConfig, "baselines"): Names(agents.names),
}
"""Section and key -> what the key may name."""
