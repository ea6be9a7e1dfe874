"""What a training method is: what a training does beside following a gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Closure = Callable[[], Tensor]
"""() -> the loss of the step's samples, detached; it leaves the gradients of the network as it is now in `.grad`."""

ROUNDING = 1e-9
"""A part of a training that begins with a step begins there, whatever a quotient is rounded to."""


@dataclass
class Course:
    """A training under way, as its methods see it."""

    network: nn.Module
    """On the device of the training."""
    optimizer: torch.optim.Optimizer
    steps: int
    """How many are planned."""
    done: int = 0
    """How many have been taken; always less than are planned."""

    @property
    def progress(self) -> float:
        """The part of the training that is over, in [0, 1)."""
        return self.done / self.steps


class Method:
    """A method of training. By itself it does nothing; one overrides what it needs.

    A training calls `begin` once; then for every step `gradients`, after which gradients are clipped, `before_step`,
    the optimizer's step, and `after_step`. Of several methods each has its turn in every hook, and the `gradients` of
    one is the `closure` of the one before. What is random is drawn from PyTorch's default generator, which is seeded
    anew for each epoch: with what `state` gives, a training that was killed goes on to the same weights.
    """

    def begin(self, course: Course) -> None:
        """Look at the network and change it, before the first step; before `restore` too."""

    def gradients(self, course: Course, closure: Closure) -> Tensor:
        """Leave the gradients of a step in `.grad`; its loss, detached. `closure` may be called more than once."""
        return closure()

    def before_step(self, course: Course) -> None:
        """Change gradients; one that is None leaves its parameter out of the step."""

    def after_step(self, course: Course) -> None:
        """Change weights."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it: plain data and tensors, on any device."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave. Tensors come on the CPU."""

    def end(self, network: nn.Module) -> None:
        """Make of `network`, in place, what the training hands over if it ends now.

        It has the weights of the last step, or their average. Asked after each epoch that is validated, of weights that
        are put back, so it changes nothing else.
        """
