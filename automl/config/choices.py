"""The names that a key may have as its value: of networks, data sets and agents."""

from __future__ import annotations

from collections.abc import Callable

import agents
from automl import data, zoo
from automl.config.agent import AgentConfig
from automl.config.model import EXPORTED, DataConfig, ModelConfig
from automl.config.study import StudyConfig
from automl.config.training import OPTIMIZERS, SCHEDULES, TrainingOptions

Names = Callable[[], list[str]]
"""The names that the program knows; `module:function` or `module:Class`, of the user's own, is one too."""

NAMES: dict[tuple[type, str], Names] = {
    (ModelConfig, "name"): lambda: [*zoo.names(), EXPORTED],
    (DataConfig, "name"): data.names,
    (TrainingOptions, "optimizer"): lambda: list(OPTIMIZERS),
    (TrainingOptions, "schedule"): lambda: list(SCHEDULES),
    (AgentConfig, "name"): agents.names,
    (StudyConfig, "baselines"): agents.names,
}
"""Section and key -> what the key may name."""
