"""What a supernet is trained with: the loss of one network a step, or the mean over some of several sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from automl.config.supernet import SupernetOptions
from automl.sharing.paths import Paths
from automl.training.methods.base import Course, Method
from search_spaces import Supernet

Softened = Callable[[Tensor, Tensor, float], Tensor]
"""(outputs, the teacher's, temperature) -> the mean loss."""


class PathMethod(Method):
    """Tells the loss of paths how far the training is."""

    def __init__(self, loss: PathLoss) -> None:
        self._loss = loss

    def begin(self, course: Course) -> None:
        """Hand the course over."""
        self._loss.course = course


class PathLoss:
    """The loss of a batch for the networks that a step trains; what a step does not train keeps its weights.

    Under the sandwich rule the papers add the losses up; their mean has the same direction and leaves the learning rate
    what it is for one network. Goes with `method`.
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
        return PathMethod(self)

    def __call__(self, network: nn.Module, inputs: tuple[Tensor, ...], targets: Tensor) -> Tensor:
        """The mean loss of a batch, a scalar; of a `Supernet`."""
        assert isinstance(network, Supernet)
        progress = self.course.progress if self.course else 0.0
        if self._options.rule == "single_path":
            return self._loss(network.at(self._paths.one(progress), *inputs), targets).mean()
        largest, *others = self._paths.sandwich(self._options.drawn, progress)
        outputs = network.at(largest, *inputs)
        losses, reference = [self._loss(outputs, targets).mean()], outputs.detach().float()
        late = self._options.distil_from is not None and progress >= self._options.distil_from
        for point in others:
            smaller = network.at(point, *inputs)
            if late and self._softened is not None:
                losses.append(self._softened(smaller, reference, 1.0))
            else:
                losses.append(self._loss(smaller, targets).mean())
        return torch.stack(losses).mean()
