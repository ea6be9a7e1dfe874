"""What the outputs of the network mean, and what else they are judged by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from automl.errors import ConfigError


@dataclass(frozen=True)
class TaskConfig:
    """The kind of task: a name, or what is to be known of it."""

    name: Literal["classification", "segmentation", "regression", "signal", "embedding", "custom"] | None = None
    """What the network's outputs mean. `segmentation`: a class at each pixel, judged by mIoU; `regression`: numbers,
    by the root mean squared error; `signal`: the values of a signal in [0, 1] at places, by PSNR; `embedding`: vectors,
    by the cosine to the original's, without labels; `custom`: only the loss knows. None: as outputs, targets and loss
    tell, class scores for class indices or your own."""
    ignore_index: int | None = None
    """The label that does not count; None: what the loss leaves out, -100 for cross-entropy."""
    metrics: str | None = None
    """`module:function` of your own that returns further metrics by name: functions of (outputs, targets) with a
    value a sample or the mean over the batch, `automl.tasks.metric.Metric`s, or objects with update, compute, reset."""

    def __post_init__(self) -> None:
        if self.metrics is not None and ":" not in self.metrics:
            raise ConfigError(f"task.metrics must be `module:function`, got {self.metrics!r}")
        if self.ignore_index is not None and self.name not in ("classification", "segmentation"):
            raise ConfigError(
                f"ignore_index is a label of class indices: say `name: classification` or `segmentation` beside it, "
                f"got {self.name or 'no name'}"
            )
