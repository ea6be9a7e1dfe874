"""The names that a key may have as its value: of networks, data sets and agents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import agents
from automl import data, zoo
from automl.config.agent import AgentConfig
from automl.config.method import MethodOptions, known_methods
from automl.config.model import EXPORTED, DataConfig, ModelConfig
from automl.config.study import StudyConfig
from automl.config.task import TaskConfig, known_tasks
from automl.config.training import OPTIMIZERS, SCHEDULES, TrainingOptions


@dataclass(frozen=True)
class Names:
    """The names that a key may have as its value."""

    known: Callable[[], list[str]]
    """Those that the program knows."""
    own: bool = True
    """Whether `module:function` or `module:Class`, of the user's own, is one too."""


NAMES: dict[tuple[type, str], Names] = {
    (ModelConfig, "name"): Names(lambda: [*zoo.names(), EXPORTED]),
    (DataConfig, "name"): Names(data.names),
    (TrainingOptions, "optimizer"): Names(lambda: list(OPTIMIZERS)),
    (TrainingOptions, "schedule"): Names(lambda: list(SCHEDULES)),
    (AgentConfig, "name"): Names(agents.names),
    (StudyConfig, "baselines"): Names(agents.names),
    (MethodOptions, "name"): Names(known_methods, own=False),
    (TaskConfig, "name"): Names(known_tasks, own=False),
}
"""Section and key -> what the key may name."""
