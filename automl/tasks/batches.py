"""Batches of samples: what they must be, and an epoch of training made of what a user handed over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from automl.errors import DataError
from automl.tasks.reading import Batch, Reader

__all__ = ["Batch", "TrainingBatches", "checked", "collect", "compact", "own"]


def collect(data: Iterable[Any], split: str, size: int | None, read: Reader | None = None) -> list[Batch]:
    """The first `size` samples of `data` (None: all), batch by batch, the last batch cropped.

    `read`: knows the form of the batches; None: that of the first.
    """
    read = read or Reader()
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 1):
        raise DataError(f"the size of the {split} data must be a whole number of at least 1, got {size!r}")
    if isinstance(data, Tensor) or not isinstance(data, Iterable):
        raise DataError(
            f"the {split} data must be an iterable of (x, y) batches, got {type(data).__name__}. "
            f"Wrap tensors as [(x, y)] or use a DataLoader"
        )
    batches: list[Batch] = []
    left = size
    for item in data:
        inputs, targets = read(item, split)
        batches.append((tuple(x[:left] for x in inputs), targets[:left]))
        if left is not None:
            left -= min(left, len(targets))
            if not left:
                break
    return checked(batches, split)


def checked(batches: Iterable[Any], split: str, read: Reader | None = None) -> list[Batch]:
    """`batches`, each read as a Batch; a `DataError` if one cannot be, or there is none."""
    read = read or Reader()
    found = [read(item, split) for item in batches]
    if not found:
        raise DataError(f"the {split} data must have at least one batch, got none. Is the iterable used up?")
    return found


def own(x: Tensor) -> Tensor:
    """`x`, cloned if it is a view of something larger."""
    return x if x.untyped_storage().nbytes() == x.nbytes else x.clone()


def compact(batches: Iterable[Batch]) -> list[Batch]:
    """`batches` without views: pickled, each view would take its whole storage along."""
    return [(tuple(own(x) for x in inputs), own(targets)) for inputs, targets in batches]


class TrainingBatches:
    """Epochs of training from a user's own data.

    Batches of a list or tuple are taken apart: all samples are shuffled and dealt out anew. Any other iterable, such as
    a DataLoader, is read from its beginning and gives its own batches in its own order.
    """

    def __init__(self, data: Iterable[Any], read: Reader | None = None) -> None:
        """`read`: knows the form of the batches; None: that of the first."""
        self._data, self._read = data, read or Reader()

    def __call__(self, seed: int, batch_size: int) -> Iterable[Batch]:
        """One epoch. `seed` and `batch_size` (the most samples of a batch) are for lists. Errors: `DataError`."""
        if isinstance(self._data, Sequence):
            return _dealt(checked(self._data, "training", self._read), seed, batch_size)
        return (self._read(item, "training") for item in self._data)


def _dealt(batches: list[Batch], seed: int, batch_size: int) -> Iterator[Batch]:
    """All samples in random order, in batches as equal in size as can be."""
    owner = torch.cat([torch.full((len(targets),), i) for i, (_, targets) in enumerate(batches)])
    place = torch.cat([torch.arange(len(targets)) for _, targets in batches])
    order = torch.randperm(len(place), generator=torch.Generator().manual_seed(seed))
    for part in torch.tensor_split(order, -(-len(order) // batch_size)):
        samples = [(batches[i], j) for i, j in zip(owner[part].tolist(), place[part].tolist(), strict=True)]
        inputs = zip(*([x[j] for x in batch] for (batch, _), j in samples), strict=True)
        yield tuple(map(torch.stack, inputs)), torch.stack([targets[j] for (_, targets), j in samples])
