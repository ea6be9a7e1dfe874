"""The batches of an epoch of training: how many there are, and where they end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized

import torch
from torch import Tensor

from automl.errors import DataError
from automl.tasks.batches import Batch
from automl.util.own_code import named_function

Data = Callable[[int], Iterable[Batch]]
"""Seed of an epoch -> its batches, in random order and augmented if they are to be."""


def ending_after(data: Data, samples: int | None) -> Data:
    """`data` whose epochs end with the batch that makes `samples` full."""
    if samples is None:
        return data
    enough = samples

    def epoch(seed: int) -> Iterator[Batch]:
        seen = 0
        for inputs, targets in data(seed):
            yield inputs, targets
            seen += len(targets)
            if seen >= enough:
                return

    return epoch


def in_groups(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """`size` batches at a time; the last group may have fewer."""
    group: list[Batch] = []
    for batch in batches:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def counted(data: Data, seed: int) -> tuple[int, Data]:
    """How many batches an epoch has, and `data`, in which no last batch of one sample stands alone after larger ones.

    Batches that have no length are counted in one pass.
    """
    batches = data(seed)
    if isinstance(batches, Sized):
        count = len(batches)
        sizes = [len(targets) for _, targets in batches[-2:]] if isinstance(batches, Sequence) else []
    else:
        sizes = [len(targets) for _, targets in batches]
        count = len(sizes)
    lone = len(sizes) > 1 and sizes[-1] == 1 and sizes[-2] > 1
    return (count - 1, _joining_last(data)) if lone else (count, data)


def _joining_last(data: Data) -> Data:
    """`data` in which a last batch of one sample joins the batch before: batch norm cannot be trained on one value."""

    def epoch(seed: int) -> Iterator[Batch]:
        before: Batch | None = None
        for batch in data(seed):
            if before is not None and len(batch[1]) == 1 < len(before[1]):
                before = _joined(before, batch)
                continue
            if before is not None:
                yield before
            before = batch
        if before is not None:
            yield before

    return epoch


def _joined(one: Batch, other: Batch) -> Batch:
    """The samples of two batches in one."""
    inputs = zip(one[0], other[0], strict=True)
    return tuple(torch.cat(pair) for pair in inputs), torch.cat([one[1], other[1]])


def transformed(batch: Batch, spec: str) -> Batch:
    """What the user's own function `spec`, `module:function`, makes of a batch. Something else: `DataError`."""
    made = named_function(spec, "transform")(*batch)
    if isinstance(made, tuple) and len(made) == 2:
        inputs, targets = made
        inputs = inputs if isinstance(inputs, tuple) else (inputs,)
        if all(isinstance(x, Tensor) for x in (*inputs, targets)):
            return inputs, targets
    raise DataError(
        f"{spec} must return (inputs, targets), tensors, inputs alone or in a tuple; got {type(made).__name__}"
    )
