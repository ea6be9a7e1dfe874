"""Distillation: a pruned network learns what the original says, and not only the labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from automl.config.training import DistillationOptions
from automl.errors import ConfigError
from automl.tasks.problem import Problem
from automl.training.hints import HintLoss, Hints
from automl.training.teacher import CachedTeacher, Teacher
from search_spaces import NetworkSpace, Plan

HINT_WEIGHTS = {"fitnets": 1.0, "attention": 1000.0, "features": 0.1}
"""What each kind of hint weighs unless the options say otherwise; for attention as published."""


def regression_loss(outputs: Tensor, reference: Tensor) -> Tensor:
    """Half the squared distance of the outputs, summed over dimension 1, averaged over samples and positions.

    Ba & Caruana 2014, "Do deep nets really need to be deep?", equation 1, on logits.
    """
    squares = (outputs.float() - reference).square() / 2
    return squares.sum(1).mean() if squares.ndim > 1 else squares.mean()


class Distillation:
    """(1 - weight) * loss with the targets + weight * loss with the teacher's outputs + hint_weight * hints."""

    def __init__(
        self,
        teacher: Teacher | CachedTeacher,
        hard: Callable[[Any, Tensor], Tensor],
        soft: Callable[[Any, Tensor], Tensor],
        options: DistillationOptions,
        hints: Hints | None = None,
    ) -> None:
        """`hard`: (outputs, targets) -> mean loss; `soft`: (outputs, the teacher's) -> mean loss; `hints`: of the nodes
        whose values `teacher` gives."""
        self.options = options
        self.teacher = teacher
        self._hard, self._soft = hard, soft
        self._hint_weight = 0.0
        self.hint_loss: HintLoss | None = None
        """The hints as a loss of their own, if there are any: FitNets trains with it alone first."""
        if hints is not None:
            if not isinstance(teacher, Teacher) or teacher.nodes != hints.nodes:
                raise ValueError("hints need a teacher that gives the values of their nodes, and caches nothing")
            self.hint_loss = HintLoss(teacher, hints)
            self._hint_weight = options.hint_weight or HINT_WEIGHTS[hints.kind]

    def __call__(self, network: nn.Module, inputs: tuple[Tensor, ...], targets: Tensor) -> Tensor:
        """The mean loss of a batch."""
        options = self.options
        if self.hint_loss is not None:
            outputs, reference, hints = self.hint_loss.run(network, inputs)
        else:
            outputs, (reference, _), hints = network(*inputs), self.teacher(inputs), None
        loss = options.weight * self._soft(outputs, reference)
        if options.weight < 1:
            loss = loss + (1 - options.weight) * self._hard(outputs, targets).mean()
        return loss if hints is None else loss + self._hint_weight * hints

    def parameters(self) -> Iterator[nn.Parameter]:
        """What is trained along with the network: the hints' regressors."""
        return self.hint_loss.parameters() if self.hint_loss is not None else iter(())

    def begin(self, network: nn.Module) -> nn.Module:
        """What to call the loss with: `network`, or where there are hints one that gives its values at their nodes."""
        return self.hint_loss.begin(network) if self.hint_loss is not None else network


def _soft_loss(problem: Problem, options: DistillationOptions) -> Callable[[Any, Tensor], Tensor]:
    """(outputs, the teacher's) -> mean loss, as the options say. `ConfigError` if the outputs cannot be softened."""
    if options.outputs == "regression":
        return regression_loss
    softened = problem.kind.softened
    if softened is None:
        raise ConfigError(
            "outputs that are no class scores cannot be softened: set `outputs: regression` to learn them as they are"
        )
    return lambda outputs, reference: softened(outputs, reference, options.temperature)


def distillation(
    problem: Problem,
    space: NetworkSpace,
    plan: Plan,
    options: DistillationOptions,
    *,
    original: nn.Module | None = None,
    hard: Callable[[Any, Tensor], Tensor] | None = None,
    dtype: torch.dtype = torch.float32,
    teacher: CachedTeacher | None = None,
) -> Distillation:
    """The loss with which the network that `plan` makes of `space.original` learns from the original.

    Args:
        problem: what the original was trained for.
        space: of the original network, not narrowed.
        plan: what the student was built from.
        options: see there.
        original: who teaches: a network of the shape and names of `space.original`, which is the default, or without
            hints any with its outputs (`automl.training.own_teachers`).
        hard: the loss with the targets; None: the problem's.
        dtype: of the teacher on a CPU.
        teacher: who teaches instead, with what it remembers of trainings on the same samples; not beside hints.

    Raises `ConfigError` if outputs are to be softened that are not class scores, or for layers that do not exist.
    """
    soft = _soft_loss(problem, options)
    hints = None
    if options.hints != "none":
        hints = Hints(space, plan, options.hints, options.layers)
    nodes: Sequence[str] = hints.nodes if hints is not None else ()
    if teacher is not None:
        return Distillation(teacher, hard or problem.loss, soft, options, hints)
    own = Teacher(original or space.original, nodes, dtype=dtype)
    remembered = problem.repeats and hints is None
    return Distillation(CachedTeacher(own) if remembered else own, hard or problem.loss, soft, options, hints)
