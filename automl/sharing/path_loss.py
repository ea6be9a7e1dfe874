"""What a supernet is trained with: the loss of one network a step, or the mean over some of several sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from automl.config.supernet import SupernetOptions
from automl.sharing.paths import Paths
from automl.training.methods.base import Course, Method
from automl.training.sandwich import Softened, TellsCourse, is_late, sandwich_loss
from search_spaces import Supernet


class PathLoss:
    """The loss of a batch for the networks that a step trains; what a step does not train keeps its weights.

    Goes with `method`.
    """

    def __init__(
        self,
        loss: Callable[[Any, Tensor], Tensor],
        paths: Paths,
        options: SupernetOptions,
        softened: Softened | None = None,
    ) -> None:
        """`loss`: (outputs, targets) -> mean loss. `softened`: what distillation takes; None: targets teach all."""
        self._loss, self._paths, self._options, self._softened = loss, paths, options, softened
        self.course: Course | None = None

    @property
    def method(self) -> Method:
        """What a training with this loss does beside following its gradient."""
        return TellsCourse(self)

    def __call__(self, network: nn.Module, inputs: tuple[Tensor, ...], targets: Tensor) -> Tensor:
        """The mean loss of a batch, a scalar; of a `Supernet`."""
        assert isinstance(network, Supernet)
        progress = self.course.progress if self.course else 0.0
        if self._options.rule == "single_path":
            return self._loss(network.at(self._paths.one(progress), *inputs), targets).mean()
        largest, *others = self._paths.sandwich(self._options.drawn, progress)
        smaller = (network.at(point, *inputs) for point in others)
        distilled = self._softened if is_late(self.course, self._options.distil_from) else None
        return sandwich_loss(self._loss, network.at(largest, *inputs), smaller, targets, distilled)
