"""Training of the networks of one space: what they minimise, who teaches them, by what their epochs are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from agents import Goal
from automl.config.training import TrainingOptions
from automl.errors import ConfigError
from automl.fit.building import Building
from automl.tasks.problem import Problem
from automl.training.history import History
from automl.training.loss import Loss, SupervisedLoss, smoothed
from automl.training.methods.base import Method
from automl.training.trainer import train
from automl.training.unsettled import unsettle_norms
from automl.types import Say, silent
from search_spaces import Plan
from search_spaces.settled import coded, settle_coded

if TYPE_CHECKING:
    from automl.training.teacher import CachedTeacher

Validate = Callable[[nn.Module], Mapping[str, float]]
"""A network -> what it is worth on the validation data, by metric."""

TELL_EVERY_S = 1.0
"""Seconds between two lines of a training: a hundred epochs of small data take some seconds."""


class Tuner:
    """Trains networks built from one space on a problem's training data, by its loss or by distillation."""

    def __init__(
        self,
        problem: Problem,
        builder: Building,
        dtype: torch.dtype,
        judged: Goal,
        shared: TrainingOptions | None = None,
    ) -> None:
        """`builder`: of the networks; the original that it was given teaches, in `dtype`. `judged`: by what epochs are
        compared. `shared`: the options of the training that every trial has: on the same samples, so that what the
        teacher says of them is remembered."""
        self._problem, self._builder, self._dtype = problem, builder, dtype
        self._judged, self._shared = judged, shared
        self.teacher: CachedTeacher | None = None
        """What is remembered of the teacher of all trials, once there was one."""

    def train(
        self,
        network: nn.Module,
        plan: Plan,
        options: TrainingOptions,
        validate: Validate | None,
        *,
        checkpoint: Path | None = None,
        until: int | None = None,
        methods: Sequence[Method] = (),
        say: Say = silent,
        launch: Callable[..., History] | None = None,
    ) -> History:
        """Train `network`, which `plan` made, in place. The rest as of `automl.training.trainer.train`.

        `launch`: the same by several workers, where there is such a thing."""
        run = train if options.workers == 1 or launch is None else launch
        data = self._problem.epochs(options.batch_size)
        if options.norms == "batch" and coded(network, plan):
            unsettle_norms(network, data(options.seed))
        history = run(
            network,
            data,
            self._loss(plan, options),
            options,
            validate=validate,
            goal=self._judged,
            checkpoint=checkpoint,
            until=until,
            methods=methods,
            say=say,
            tell_every_s=TELL_EVERY_S,
        )
        settle_coded(network, plan)
        return history

    def _loss(self, plan: Plan, options: TrainingOptions) -> Loss:
        """What training the network that `plan` made minimises."""
        if options.distillation is None:
            return SupervisedLoss(self._problem.loss, options.label_smoothing)
        # Its teacher is made fast by `automl.evaluation`.
        from automl.training.distillation import distillation
        from automl.training.own_teachers import own_teacher
        from automl.training.teacher import CachedTeacher, Teacher

        space, original = self._builder.network_space, self._builder.original
        if original is None or space is None:
            raise ConfigError("distillation learns from an original network, and there is none: leave it out")
        shared = options is self._shared and options.distillation.hints == "none"
        if self.teacher is None or not shared:
            original = own_teacher(options.distillation, self._problem) or original
        if shared and self.teacher is None:
            self.teacher = CachedTeacher(Teacher(original, dtype=self._dtype))
        return distillation(
            self._problem,
            space,
            plan,
            options.distillation,
            original=original,
            hard=smoothed(self._problem.loss, options.label_smoothing),
            dtype=self._dtype,
            teacher=self.teacher if shared else None,
        )

    def on(self, problem: Problem) -> Tuner:
        """This tuner with the same problem, held in another way, and no teacher in memory."""
        return Tuner(problem, self._builder, self._dtype, self._judged, self._shared)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "teacher": None}
