"""Rows of a table, or signals, in memory, and the splits that a search may see of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from automl.data.images import parts
from automl.data.order import strata, stratified_order
from automl.errors import DataError
from automl.tasks.batches import Batch


@dataclass(frozen=True)
class Rows:
    """Samples in their own units, each with a class or with numbers. Nothing is drawn at random in training them."""

    x: Tensor
    """float32 [n, columns], or of signals [n, channels, length]."""
    y: Tensor
    """int64 [n] of classes, float32 [n, k] of numbers."""

    def __len__(self) -> int:
        return len(self.y)

    def subset(self, index: Sequence[int] | Tensor) -> Rows:
        """A copy of the samples at `index`, in that order."""
        where = torch.as_tensor(index, dtype=torch.int64)
        return Rows(self.x[where], self.y[where])

    def batches(self, size: int) -> list[Batch]:
        """All samples in their order, in batches of at most `size`, as equal in size as can be."""
        return [((self.x[part],), self.y[part]) for part in parts(torch.arange(len(self)), size)]

    def shuffled(self, seed: int, size: int) -> Iterator[Batch]:
        """One epoch: the same in random order."""
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return (((self.x[part],), self.y[part]) for part in parts(order, size))


@dataclass(frozen=True)
class OwnRows:
    """A user's own samples: those to learn from, those held out for the end, and what their parts are called."""

    train: Rows
    test: Rows | None = None
    classes: int | None = None
    """How many there are; None where targets are numbers."""
    names: Mapping[str, Any] = field(default_factory=dict)
    """What a file says of inputs and targets: plain data, which goes with what is exported."""


@dataclass(frozen=True)
class RowSplits:
    """Such samples divided for a search. Only `test` holds those for the end."""

    train: Rows
    """All to learn from that are not in `validation`."""
    calibration: list[Batch]
    validation: list[Batch]
    test: list[Batch] | None
    classes: int | None
    names: Mapping[str, Any]

    @classmethod
    def of(
        cls, given: OwnRows, *, validation_size: int, calibration_size: int, batch_size: int, split_seed: int
    ) -> RowSplits:
        """Stratified by class, or by the number where there is one. `DataError` for more than there is."""
        rows = given.train
        if validation_size >= len(rows):
            raise DataError(
                f"validation_size {validation_size} leaves nothing of {len(rows)} samples to learn from: lower it"
            )
        order = torch.from_numpy(stratified_order(strata(rows.y), split_seed))
        train = rows.subset(order[validation_size:])
        return cls(
            train,
            train.subset(range(min(calibration_size, len(train)))).batches(batch_size),
            rows.subset(order[:validation_size]).batches(batch_size),
            None if given.test is None else given.test.batches(batch_size),
            given.classes,
            given.names,
        )

    def training(self, seed: int, batch_size: int) -> Iterator[Batch]:
        """One epoch of `train`, in random order."""
        return self.train.shuffled(seed, batch_size)

    def read_test(self) -> list[Batch]:
        """The samples for the end."""
        assert self.test is not None
        return self.test


PART = 6
"""Of a table without a test of its own, so that one row of so many is held out for it."""


def with_test(given: Rows, split_seed: int) -> tuple[Rows, Rows]:
    """The rows to learn from, and a `PART` of all that is held out for the end."""
    order = torch.from_numpy(stratified_order(strata(given.y), split_seed + 1))
    count = len(given) // PART
    return given.subset(order[count:]), given.subset(order[:count])
