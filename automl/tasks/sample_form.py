"""What samples and their targets are, read off the data: all that a network that is made for them must know."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from automl.errors import DataError
from automl.tasks.batches import Batch
from automl.tasks.regression import SquaresInVariances
from search_spaces import Frame, Scales
from search_spaces.cells.scales import Pair

FEW = 20
"""Samples of a class; with less of them nothing much is learnt of it."""
UNEVEN = 10
"""How many times as many samples the largest class may have as the smallest before it is worth a word."""
NAMES = {0: "row", 1: "signal", 2: "image"}
"""What a sample is called, by the dimensions of its map."""


@dataclass(frozen=True)
class SampleForm:
    """Samples of one size: images, signals of some channels, or rows of a table; each of one class, or with numbers."""

    channels: int
    """Of a table the columns."""
    size: tuple[int, ...]
    """Height and width of images, (length,) of signals, () of rows of a table."""
    counts: tuple[int, ...] = ()
    """How many samples there are of each class, counted from class 0; none where targets are numbers."""
    scales: Scales = field(default_factory=Scales)
    """What networks standardise by: signals and tables come in any unit, as do numbers that are to be told."""
    constant: tuple[int, ...] = ()
    """The channels that never change."""
    samples: int = 0
    """How many there are."""

    @property
    def numbers(self) -> int:
        """How many numbers a target has; 0 where it is a class."""
        return len(self.scales.numbers[0]) if self.scales.numbers else 0

    @property
    def sample(self) -> str:
        """What a sample is called."""
        return NAMES[len(self.size)]

    @property
    def frame(self) -> Frame:
        """What all networks for such samples have in common."""
        return Frame(
            self.channels,
            self.size,
            self.numbers or len(self.counts),
            standardized=self.scales.inputs is not None,
            numbers=bool(self.numbers),
        )

    @property
    def judged(self) -> dict[str, Any]:
        """Task and loss that networks are made by, as arguments of a `Problem`."""
        if self.scales.numbers is None:
            return {"task": "classification"}
        return {"task": "regression", "loss": SquaresInVariances(self.scales.numbers[1])}

    @classmethod
    def of(cls, inputs: Tensor, targets: Tensor, classes: int | None = None) -> SampleForm:
        """Of samples [n, channels, *size] and all targets, [m] of classes or [m, k] of numbers. `DataError`.

        `classes` None: as many as the targets tell. Of images a few samples will do, else all that networks are trained
        on are needed to standardise by.
        """
        if inputs.ndim not in (2, 3, 4) or not inputs.is_floating_point():
            raise DataError(
                f"networks are made for images, float tensors [n, channels, height, width], signals [n, channels, "
                f"length] and rows of a table [n, columns], got inputs of shape {list(inputs.shape)} and type "
                f"{inputs.dtype}"
            )
        size = tuple(inputs.shape[2:])
        standard, constant = _pair(inputs) if len(size) < 2 else (None, ())
        if targets.is_floating_point():
            if targets.ndim != 2:
                raise DataError(
                    f"networks are made to tell one class, whole numbers from 0, [n], or numbers, [n, how many], got "
                    f"targets of shape {list(targets.shape)} and type {targets.dtype}: give `y[:, None]` if each "
                    f"{NAMES[len(size)]} has one number, `y.long()` if it is a class"
                )
            return cls(inputs.shape[1], size, (), Scales(standard, _pair(targets)[0]), constant, len(targets))
        if targets.ndim != 1 or (len(targets) and int(targets.min()) < 0):
            raise DataError(
                f"to tell classes, networks need one label a sample, whole numbers from 0, [n], got targets of shape "
                f"{list(targets.shape)} and type {targets.dtype}"
            )
        counts = torch.bincount(targets.long(), minlength=classes or 0)
        if len(counts) < 2:
            raise DataError("there is one class only, and nothing to tell apart: give samples of two classes or more")
        return cls(inputs.shape[1], size, tuple(counts.tolist()), Scales(standard), constant, len(targets))

    @classmethod
    def of_batches(cls, batches: Iterable[Batch]) -> SampleForm:
        """The same of all batches of a split, which are read once. `DataError`."""
        samples: list[Tensor] = []
        targets = []
        for inputs, told in batches:
            if len(inputs) != 1:
                raise DataError(f"networks are made for one input alone, got batches of {len(inputs)}")
            if not samples or inputs[0].ndim < 4:  # of images nothing but their size is asked
                samples.append(inputs[0])
            targets.append(told)
        if not samples:
            raise DataError("the training data must have at least one batch, got none. Is the iterable used up?")
        if len({target.shape[1:] for target in targets}) > 1 or len({x.shape[1:] for x in samples}) > 1:
            raise DataError("all training batches must have samples of one shape, and targets of one shape")
        return cls.of(torch.cat(samples), torch.cat(targets))

    @property
    def told(self) -> str:
        """What samples are and what is to be told of them, for people."""
        if len(self.size) == 2:
            what = f"images of {self.channels} channels, {self.size[0]} x {self.size[1]}"
        elif self.size:
            what = f"signals of {self.channels} channels, {self.size[0]} long"
        else:
            what = f"rows of {self.channels} columns"
        sought = f"{self.numbers} number{'s' * (self.numbers > 1)}" if self.numbers else f"{len(self.counts)} classes"
        return f"{self.samples:,} {what} to learn from, {sought} to tell"

    @property
    def cautions(self) -> list[str]:
        """What somebody should know of the data before a network is made for them."""
        lines = []
        if self.constant:
            what = "column" if not self.size else "channel"
            names = ", ".join(map(str, self.constant[:5]))
            lines.append(f"{what} {names} (from 0) never changes in training: nothing is learnt of it")
        if not self.counts:
            return lines
        empty = [i for i, count in enumerate(self.counts) if not count]
        if empty:
            lines.append(
                f"no training {self.sample} is of class {', '.join(map(str, empty[:5]))}: it will never be told"
            )
        few = [i for i, count in enumerate(self.counts) if 0 < count < FEW]
        if few:
            lines.append(f"class {', '.join(map(str, few[:5]))} has fewer than {FEW} training {self.sample}s")
        least = min(count for count in self.counts if count)
        if max(self.counts) > UNEVEN * least:
            lines.append(
                f"classes are uneven: the largest has {max(self.counts)} training {self.sample}s, the smallest "
                f"{least}, so that the share of right answers says little of small ones"
            )
        return lines


def _pair(values: Tensor) -> tuple[Pair, tuple[int, ...]]:
    """Mean and standard deviation of each channel of [n, channels, ...], and the channels that never change, of which
    it is 1. `DataError` for what is no number."""
    spread, mean = torch.std_mean(values.double().movedim(1, 0).flatten(1), dim=1, correction=0)
    if not (mean.isfinite().all() and spread.isfinite().all()):
        raise DataError("the training data must hold finite numbers, got NaN or infinity. Clean or fill them in first")
    changes = spread > _SMALLEST * mean.abs()
    spread = torch.where(changes, spread, 1.0)
    return (tuple(mean.float().tolist()), tuple(spread.float().tolist())), tuple((~changes).nonzero()[:, 0].tolist())


_SMALLEST = 1e-7
"""The part of a mean below which a standard deviation is the rounding of float32."""
