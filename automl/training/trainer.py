"""The training loop, for any network, data, loss and methods; killed and started again, it goes on.

One training is a function of the network, the data, the loss, the options and the number of threads.
"""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from agents import Goal
from automl.config.training import TrainingOptions
from automl.errors import ConfigError, DataError, NotFiniteError, StudyError
from automl.tasks.batches import Batch
from automl.training.average import Average
from automl.training.checkpoint import read_checkpoint, write_checkpoint
from automl.training.epochs import Data, counted, ending_after, in_groups, transformed
from automl.training.form import autocast, compiled, explained, gradients_keep_right, laid_out, on_device, settled
from automl.training.history import Epoch, History, line_of
from automl.training.loss import Loss
from automl.training.loss_scale import LossScale
from automl.training.methods.base import Closure, Course, Method
from automl.training.optimizers import optimizer_of
from automl.training.schedules import learning_rate
from automl.training.team import ALONE, Team
from automl.types import Say, silent
from automl.util.fingerprint import fingerprint
from automl.util.modes import to_train
from automl.util.weights import copied, live, put, put_back

Validate = Callable[[nn.Module], Mapping[str, float]]
"""A network in eval mode on the CPU -> what it is worth, by metric."""

CHECK_EVERY = 20
"""Steps between two looks at whether the loss is finite: each look waits for the device."""


def train(
    network: nn.Module,
    data: Data,
    loss: Loss,
    options: TrainingOptions,
    *,
    validate: Validate | None = None,
    goal: Goal | None = None,
    checkpoint: Path | None = None,
    until: int | None = None,
    methods: Sequence[Method] = (),
    say: Say = silent,
    tell_every_s: float = 0.0,
    team: Team = ALONE,
) -> History:
    """Train `network` in place; it comes back on the CPU in eval mode, with the weights that `options` keep.

    What is validated, and kept, is what `methods` would hand over.

    Args:
        network: any network; parameters that require no gradient stay as they are.
        data: called once an epoch. Batches that have no length are counted first, in one pass more.
        loss: what is minimised; its own parameters, if it has any, are trained along.
        options: how.
        validate: called after each epoch, with the averaged weights if they are averaged.
        goal: by which epochs are compared, one of the metrics that `validate` gives; needed to keep the best.
        checkpoint: a file that is written after each epoch. If it is there, the training goes on from it, to the same
            weights as without a break.
        until: go no further than to the end of this epoch, of those that `options` plan; None: of the last.
        methods: what is done beside following gradients, which are clipped first. Each serves one training.
        say: told of each epoch in a line.
        tell_every_s: or of the first and the last, and of those between that end so many seconds after one told of.
        team: of which this process is one, each given the same; the first validates, tells and has the checkpoint.

    Raises:
        NotFiniteError: the loss became NaN or infinite.
        ConfigError: nothing to train, no such device, or nothing to tell the best epoch by.
        StudyError: a checkpoint that cannot be written, or is of another training.
        DataError: an epoch without batches.
    """
    if options.workers != team.size:
        raise ConfigError(f"workers is {options.workers}, and this is a training by {team.size}: leave workers out")
    device = _device(options)
    with _own_randomness(device):
        try:
            training = _Training(network, ending_after(data, options.samples), loss, options, device, methods, team)
            return training.run(validate, goal, checkpoint, until or options.epochs, say, tell_every_s)
        finally:
            laid_out(network.cpu().eval(), channels_last=False)


def settle(network: nn.Module, data: Data, options: TrainingOptions) -> TrainingOptions:
    """`options` with what is `auto` but the device decided on a batch of `data`, to train many alike networks alike."""
    if "auto" not in (options.precision, options.channels_last):
        return options
    device = _device(options)
    inputs, _ = next(iter(data(_epoch_seed(options.seed, 0))), ((), None))
    with _own_randomness(device):
        return settled(options, network, inputs, device)


class _Training:
    """A training under way."""

    def __init__(
        self,
        network: nn.Module,
        data: Data,
        loss: Loss,
        options: TrainingOptions,
        device: torch.device,
        methods: Sequence[Method],
        team: Team,
    ) -> None:
        self.team = team
        self.network, self.data, self.loss, self.device = network, data, loss, device
        self.asked = self.options = options
        self.methods = methods
        self.start = fingerprint(network)
        self.epochs: list[Epoch] = []
        self.steps = 0
        self.kept = 0
        self.best: list[Tensor] = []

    def run(
        self,
        validate: Validate | None,
        goal: Goal | None,
        checkpoint: Path | None,
        until: int,
        say: Say,
        tell_every_s: float,
    ) -> History:
        if self.options.keep == "best" and (validate is None or goal is None):
            raise ConfigError("keep is best, and nothing is validated to tell by: set `keep: last`")
        first = self.team.rank == 0
        validate, say = (validate, say) if first else (None, silent)
        found = self.team.agreed(read_checkpoint(checkpoint) if checkpoint is not None and first else None)
        self._seed(0)
        self.options = self._settled(found)
        to_train(self.network.to(self.device), norms_stay=self.options.norms == "fixed")
        laid_out(self.network, bool(self.options.channels_last))
        with self.team.joined_norms(self.network, self.device):
            self._make_student()
            self._make_optimizer()
            before = len(found["epochs"]) if found is not None else 0
            per_epoch = self._counted() if before < until else 1
            self.course = Course(self.network, self.optimizer, self.options.epochs * per_epoch)
            for method in self.methods:
                method.begin(self.course)
            if found is not None:
                self._restore(found, checkpoint)
            start, told = time.monotonic(), -math.inf
            for number in range(before, until):
                self._judge(self._epoch(number, per_epoch), validate, goal)
                if checkpoint is not None and first:
                    write_checkpoint(checkpoint, self._state())
                left = (time.monotonic() - start) / (number + 1 - before) * (self.options.epochs - number - 1)
                if time.monotonic() - told >= tell_every_s or number == until - 1:
                    say(line_of(self.epochs, self.options.epochs, left))
                    told = time.monotonic()
            if self.best:
                say(f"the weights of epoch {self.kept} are kept")
                put(self.best, self.network)
            else:
                self._hand_over()
            return History(tuple(self.epochs), self.options, self.kept)

    def _counted(self) -> int:
        """How many steps an epoch has."""
        batches, self.data = counted(self.data, _epoch_seed(self.options.seed, 0))
        return math.ceil(batches / self.options.accumulate)

    def _epoch(self, number: int, per_epoch: int) -> Epoch:
        """One pass over the data. What is random in it depends on the seed and its number, and on nothing before."""
        self._seed(number + 1)
        to_train(self.network, norms_stay=self.options.norms == "fixed")
        start = time.perf_counter()
        total, samples = torch.zeros((), device=self.device), 0
        batches = self.data(_epoch_seed(self.options.seed, number))
        for i, group in enumerate(in_groups(batches, self.options.accumulate)):
            self.course.done = min(number * per_epoch + i, self.course.steps - 1)
            size = sum(len(targets) for _, targets in group)
            total += self._step(group) * size
            samples += size
            if i % CHECK_EVERY == 0:
                self._require_finite(total, number, i)
        if not samples:
            raise DataError(f"epoch {number + 1} of the training data has no batch: is its iterable used up?")
        self._require_finite(total, number, per_epoch)
        return Epoch(float(total) / samples, samples, time.perf_counter() - start)

    def _step(self, group: Sequence[Batch]) -> Tensor:
        """One step of the optimizer on some batches; the mean loss before it, detached."""
        middle = self.course.progress + 0.5 / self.course.steps  # neither the first rate nor the last is 0
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = learning_rate(self.options, middle)
        group = [
            batch if self.options.transform is None else transformed(batch, self.options.transform) for batch in group
        ]
        parts = [self._on_device(self.team.part(batch)) for batch in group]
        size, own = (sum(len(targets) for _, targets in batches) for batches in (group, parts))
        closure: Closure = partial(self._gradients, parts, size)
        for method in reversed(self.methods):
            closure = partial(method.gradients, self.course, closure)
        loss = closure()
        if self.options.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.trained, self.options.clip)
        for method in self.methods:
            method.before_step(self.course)
        self.optimizer.step()
        for method in self.methods:
            method.after_step(self.course)
        self.steps += 1
        self.team.average_norms(self.network, own / size)
        if self.average is not None:
            self.average.update(self.network, self.steps)
        return loss

    def _on_device(self, batch: Batch) -> Batch:
        """A batch as it is trained on."""
        inputs, targets = batch
        last = bool(self.options.channels_last)
        return tuple(on_device(x, self.device, last) for x in inputs), targets.to(self.device, non_blocking=True)

    def _gradients(self, group: Sequence[Batch], size: int) -> Tensor:
        """Leave the gradients of the mean loss over some batches in `.grad`; that loss, detached.

        `group`: what this process works on of them; `size`: how many samples they have in all.
        """
        total = self._backward(group, size)
        while self.scale is not None and not self.scale.undo(self.trained, total):
            total = self._backward(group, size)
        return total

    def _backward(self, group: Sequence[Batch], size: int) -> Tensor:
        """The same with gradients times the scale of the loss."""
        self.optimizer.zero_grad()
        total = torch.zeros((), device=self.device)
        with self.team.own_randomness(self.steps, self.device):
            for inputs, targets in (batch for batch in group if len(batch[1])):
                with autocast(self.device, self.options.precision), explained():
                    loss = self.loss(self.student, inputs, targets)
                part = len(targets) / size
                (loss * part if self.scale is None else loss.float() * (part * self.scale.value)).backward()
                total += loss.detach().float() * part
        self.team.add_up(self.trained)
        return self.team.total(total)

    def _judge(self, epoch: Epoch, validate: Validate | None, goal: Goal | None) -> None:
        """Validate what would be handed over after this epoch, and note it if it is what to keep."""
        self.epochs.append(epoch)
        if validate is None:
            self.kept = len(self.epochs)
            return
        with put_back(self.network):
            self._hand_over()
            self.network.eval()
            network = self.network if self.device.type == "cpu" else copy.deepcopy(self.network).cpu()
            self.epochs[-1] = replace(epoch, validation=dict(validate(network)))
            self._keep(goal)

    def _hand_over(self) -> None:
        """Put what is handed over in the place of the weights of the last step."""
        if self.average is not None:
            put(self.average.tensors, self.network)
        for method in self.methods:
            method.end(self.network)

    def _keep(self, goal: Goal | None) -> None:
        """Note the weights after this epoch if they are those to keep, of equal ones the later."""
        if self.options.keep == "best" and goal is not None:
            worth = [goal.utility(epoch.validation[goal.metric]) for epoch in self.epochs]
            if self.kept and worth[-1] < worth[self.kept - 1]:
                return
            self.best = copied(live(self.network))
        self.kept = len(self.epochs)

    def _make_student(self) -> None:
        """What the loss is called with: the network, or what the loss makes of it, compiled if that is asked for."""
        student: nn.Module = getattr(self.loss, "begin", lambda network: network)(self.network)
        self.student = compiled(student) if self.options.compile else student

    def _make_optimizer(self) -> None:
        """The optimizer of what requires a gradient, of the network and of the loss."""
        self.extra: list[Tensor] = list(getattr(self.loss, "parameters", list)())
        self.trained = [p for p in (*self.network.parameters(), *self.extra) if p.requires_grad]
        if not self.trained:
            raise ConfigError("nothing can be trained: no parameter of the network requires a gradient")
        self.optimizer = optimizer_of(self.trained, self.options)
        self.average = Average(self.network, self.options.ema) if self.options.ema is not None else None
        self.scale = LossScale() if self.options.precision == "float16" else None

    def _settled(self, found: Mapping[str, Any] | None) -> TrainingOptions:
        """The options with precision and order of memory as in the checkpoint, or as a few steps find them."""
        if found is not None:
            precision, channels_last = found["form"]["precision"], found["form"]["channels_last"]
        else:
            chosen = settle(self.network, self.data, self.asked)
            precision, channels_last = self.team.agreed((chosen.precision, chosen.channels_last))
        # A network like the one that the form was tried on may have a layer of fewer channels.
        channels_last = channels_last and gradients_keep_right(self.network, self.device)
        return replace(self.asked, precision=precision, channels_last=channels_last)

    def _state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            "start": self.start,
            "options": asdict(self.asked),
            "form": {"precision": self.options.precision, "channels_last": bool(self.options.channels_last)},
            "steps": self.steps,
            "network": self.network.state_dict(),
            "extra": [parameter.detach() for parameter in self.extra],
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.tensors if self.average is not None else [],
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "kept": self.kept,
            "best": self.best,
            "methods": [method.state() for method in self.methods],
            "scale": self.scale.state() if self.scale is not None else None,
        }

    def _restore(self, state: Mapping[str, Any], path: Path | None) -> None:
        """Go on from what `_state` gave."""
        try:
            usual = asdict(TrainingOptions())  # what the checkpoint of an older version does not say
            if {**usual, **state["options"], "workers": self.asked.workers} != asdict(self.asked):
                raise ValueError("its options are others")
            if state["start"] != self.start:
                raise ValueError("it began with other weights")
            self.network.load_state_dict(state["network"])
            averages = self.average.tensors if self.average is not None else []
            with torch.no_grad():
                for own, kept in zip((*self.extra, *averages), (*state["extra"], *state["average"]), strict=True):
                    own.copy_(kept)
            self.optimizer.load_state_dict(state["optimizer"])
            self.epochs = [Epoch(**epoch) for epoch in state["epochs"]]
            self.steps, self.kept = state["steps"], state["kept"]
            self.best = [tensor.to(self.device) for tensor in state["best"]]
            for method, kept in zip(self.methods, state["methods"], strict=True):
                method.restore(kept)
            if self.scale is not None:
                self.scale.restore(state["scale"])
        except (ValueError, RuntimeError, KeyError, TypeError) as error:
            raise StudyError(
                f"the checkpoint {path} is of another training: {error}. Remove it to train anew"
            ) from error

    def _seed(self, part: int) -> None:
        """Seed what is drawn without a generator (dropout, a loader's order); the caller's state is put back later."""
        seed = int(np.random.SeedSequence((self.asked.seed, part, 1)).generate_state(1)[0])
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _require_finite(self, total: Tensor, epoch: int, step: int) -> None:
        if not math.isfinite(float(total)):
            raise NotFiniteError(
                f"the training loss became {float(total)} by step {step + 1} of epoch {epoch + 1}: lower "
                f"learning_rate, set clip, or use precision float32"
            )


def _device(options: TrainingOptions) -> torch.device:
    if options.device == "cpu" or (options.device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError("device is cuda, and PyTorch sees none here: set `device: auto` or `cpu`")
    return torch.device("cuda", torch.cuda.current_device())


def _own_randomness(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """A block after which the global random state is as it was."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def _epoch_seed(seed: int, epoch: int) -> int:
    """The seed of an epoch's data."""
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0])
