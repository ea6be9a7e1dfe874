"""What a slimmable network is trained with: the mean of the losses of several widths, the narrow ones distilled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from automl.dynamic.slimmable import Slimmable
from automl.errors import ConfigError
from automl.training.methods.base import Course, Method
from automl.training.sandwich import Softened, TellsCourse, is_late, sandwich_loss


class WidthMethod(TellsCourse):
    """What goes with the loss of widths: it tells the loss of the course, and makes gradients even.

    The mean over n widths leaves a weight that only the widest has with an n-th of the gradient that it would have in
    the widest alone, and the narrow ones' with that of all. `even` divides the gradient of each weight by the number of
    widths in the step that have it instead. This is no published method.
    """

    def __init__(self, loss: WidthLoss, even: bool) -> None:
        super().__init__(loss)
        self._of, self._even = loss, even
        self._factors: dict[tuple[float, ...], dict[str, Tensor]] = {}

    def before_step(self, course: Course) -> None:
        """Make the gradients even."""
        if not self._even:
            return
        assert isinstance(course.network, Slimmable)
        widths = self._of.widths
        if widths not in self._factors:
            uses = course.network.uses(widths)
            self._factors[widths] = {name: len(widths) / counts.clamp(min=1) for name, counts in uses.items()}
        for name, factors in self._factors[widths].items():
            gradient = course.network.get_parameter(name).grad
            if gradient is not None:
                gradient.mul_(factors)


class WidthLoss:
    """The mean over widths of the loss of a batch, with which a slimmable network is trained.

    Without `drawn` all widths take part in each step (Yu et al. 2019, algorithm 1). With it the sandwich rule: the
    narrowest, the widest, and so many drawn between (Yu & Huang 2019, section 3.1). From the part `distil_from` of the
    training on, all but the widest learn what the widest says and no labels (section 3.2, in-place distillation).

    A training that distils, or is `even`, goes with `method`. Drawing takes PyTorch's default generator, so a
    training that was killed draws the same.
    """

    def __init__(
        self,
        loss: Callable[[Any, Tensor], Tensor],
        softened: Softened | None = None,
        *,
        drawn: int | None = None,
        distil_from: float | None = None,
        temperature: float = 1.0,
        even: bool = False,
    ) -> None:
        """`loss`: (outputs, targets) -> mean loss. `softened` is what distillation takes. `distil_from` None: never.
        `even`: whether its method divides each gradient by the number of widths that have the weight."""
        if distil_from is not None and not 0 <= distil_from <= 1:
            raise ConfigError(f"distil_from is a part of the training, in [0, 1], or none, got {distil_from}")
        if distil_from is not None and softened is None:
            raise ConfigError("outputs that are no class scores cannot be distilled: leave distil_from out")
        if drawn is not None and drawn < 0:
            raise ConfigError(f"drawn is a number of widths beside the narrowest and the widest, got {drawn}")
        self._loss, self._softened = loss, softened
        self._drawn, self._distil_from, self._temperature = drawn, distil_from, temperature
        self._even = even
        self.widths: tuple[float, ...] = ()
        """Those of the last step, ascending."""
        self.course: Course | None = None
        """Whose progress says when to distil; None: the training has only begun."""

    @property
    def method(self) -> Method:
        """What a training with this loss does beside following its gradient."""
        return WidthMethod(self, self._even)

    def __call__(self, network: nn.Module, inputs: tuple[Tensor, ...], targets: Tensor) -> Tensor:
        """The mean loss of a batch, a scalar; of a `Slimmable`."""
        assert isinstance(network, Slimmable)
        narrow, widest = self._in_step(network.widths[:-1]), network.at(1.0, *inputs)
        self.widths = (*narrow, 1.0)
        distilled = self._softened if is_late(self.course, self._distil_from) else None
        narrower = (network.at(width, *inputs) for width in narrow)
        return sandwich_loss(self._loss, widest, narrower, targets, distilled, self._temperature)

    def _in_step(self, narrow: tuple[float, ...]) -> list[float]:
        """The widths of a step beside the widest."""
        if self._drawn is None or len(narrow) <= self._drawn + 1:
            return list(narrow)
        picked = torch.randperm(len(narrow) - 1)[: self._drawn] + 1
        return [narrow[0], *(narrow[i] for i in sorted(picked.tolist()))]
