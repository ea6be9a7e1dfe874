"""Batches of samples: what they must be, and an epoch of training made of what a user handed over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from automl.errors import DataError

Batch = tuple[tuple[Tensor, ...], Tensor]
"""Inputs of the network's forward, each [n, ...], and the targets, [n, ...]."""


def collect(data: Iterable[Any], split: str, size: int | None) -> list[Batch]:
    """The first `size` samples of `data` (None: all), batch by batch, the last batch cropped."""
    if size is not None and size < 1:
        raise DataError(f"the size of the {split} data must be at least 1, got {size}")
    if isinstance(data, Tensor) or not isinstance(data, Iterable):
        raise DataError(
            f"the {split} data must be an iterable of (x, y) batches, got {type(data).__name__}. "
            f"Wrap tensors as [(x, y)] or use a DataLoader"
        )
    batches: list[Batch] = []
    left = size
    for item in data:
        inputs, targets = _batch(item, split)
        batches.append((tuple(x[:left] for x in inputs), targets[:left]))
        if left is not None:
            left -= min(left, len(targets))
            if not left:
                break
    return checked(batches, split)


def checked(batches: Iterable[Any], split: str) -> list[Batch]:
    """`batches`, each found to be a Batch; a `DataError` if one is not, or there is none."""
    found = [_batch(item, split) for item in batches]
    if not found:
        raise DataError(f"the {split} data must have at least one batch, got none. Is the iterable used up?")
    return found


def _batch(item: Any, split: str) -> Batch:
    """`item` as a Batch, or a `DataError` that says what is wrong with it."""
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        what = f"{type(item).__name__} of {len(item)}" if isinstance(item, (tuple, list)) else type(item).__name__
        raise DataError(f"a {split} batch must be a pair (x, y), got {what}. Map your batches to (x, y) first")
    x, targets = item
    inputs = tuple(x) if isinstance(x, (tuple, list)) else (x,)
    strange = [type(part).__name__ for part in (*inputs, targets) if not isinstance(part, Tensor)]
    if strange or not inputs:
        raise DataError(
            f"the x and y of a {split} batch must be tensors (x may be a tuple of them), "
            f"got {strange[0] if strange else 'no input'}. Convert them with torch.as_tensor"
        )
    sizes = [part.shape[0] if part.ndim else 0 for part in (*inputs, targets)]
    if len(set(sizes)) != 1 or not sizes[0]:
        raise DataError(
            f"the x and y of a {split} batch must have the same number of samples, at least 1, along their first "
            f"dimension, got shapes {[list(part.shape) for part in (*inputs, targets)]}"
        )
    if any(part.is_floating_point() and part.isnan().any() for part in inputs):
        raise DataError(f"the x of a {split} batch must hold numbers, got NaN. Clean or impute the data first")
    return inputs, targets


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

    def __init__(self, data: Iterable[Any]) -> None:
        self._data = data

    def __call__(self, seed: int, batch_size: int) -> Iterable[Batch]:
        """One epoch. `seed` and `batch_size` (the most samples of a batch) are for lists. Errors: `DataError`."""
        if isinstance(self._data, Sequence):
            return _dealt(checked(self._data, "training"), seed, batch_size)
        return (_batch(item, "training") for item in self._data)


def _dealt(batches: list[Batch], seed: int, batch_size: int) -> Iterator[Batch]:
    """All samples in random order, in batches as equal in size as can be."""
    owner = torch.cat([torch.full((len(targets),), i) for i, (_, targets) in enumerate(batches)])
    place = torch.cat([torch.arange(len(targets)) for _, targets in batches])
    order = torch.randperm(len(place), generator=torch.Generator().manual_seed(seed))
    for part in torch.tensor_split(order, -(-len(order) // batch_size)):
        samples = [(batches[i], j) for i, j in zip(owner[part].tolist(), place[part].tolist(), strict=True)]
        inputs = zip(*([x[j] for x in batch] for (batch, _), j in samples), strict=True)
        yield tuple(map(torch.stack, inputs)), torch.stack([targets[j] for (_, targets), j in samples])
