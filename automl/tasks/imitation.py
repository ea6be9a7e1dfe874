"""Batches whose targets are what the original network puts out, for tasks without labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from automl.tasks.reading import Batch
from automl.util.modes import evaluating


@dataclass(frozen=True)
class Imitation:
    """An imitation makes the outputs of `original` the targets of batches, whatever these had before."""

    original: nn.Module

    def batches(self, batches: Iterable[Batch]) -> list[Batch]:
        """All of `batches`, each with the outputs as targets."""
        return list(self._each(batches))

    def of_test(self, read: Callable[[], list[Batch]]) -> Callable[[], list[Batch]]:
        """The same of what `read` gives."""
        return partial(self._tested, read)

    def of_training(self, epoch: Callable[[int, int], Iterable[Batch]]) -> Callable[[int, int], Iterable[Batch]]:
        """The same of every epoch of training."""
        return partial(self._trained, epoch)

    def _tested(self, read: Callable[[], list[Batch]]) -> list[Batch]:
        return self.batches(read())

    def _trained(self, epoch: Callable[[int, int], Iterable[Batch]], seed: int, batch_size: int) -> Iterator[Batch]:
        return self._each(epoch(seed, batch_size))

    def _each(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        for inputs, _ in batches:
            with evaluating(self.original), torch.no_grad():
                outputs = self.original(*inputs)
            yield inputs, outputs
