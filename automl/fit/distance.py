"""How far a network is from the original: the mean divergence of their outputs on a few inputs, without labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from automl.fast.precision import first
from automl.fit.samples import in_parts
from automl.tasks.batches import Batch
from automl.tasks.imitation import Imitation
from automl.util.modes import evaluating

SAMPLES, AT_ONCE = 256, 16
"""Of the data on which networks are compared, and how many go through a network together: on large images the batches
of the evaluation would take more memory here than anything else."""


class Distance:
    """Remembers the original's outputs, and compares others with them."""

    def __init__(self, original: nn.Module, batches: Sequence[Batch], divergence: Callable[[Any, Any], Tensor]) -> None:
        """`divergence`: as of `Kind`, a value a row; of the batches only the first inputs are looked at."""
        self._original, self._inputs, self._divergence = original, batches, divergence

    @cached_property
    def _batches(self) -> list[Batch]:
        """The first inputs, and what the original makes of them: worked out when the first network is compared."""
        return Imitation(self._original).batches(list(in_parts(first(self._inputs, SAMPLES), AT_ONCE)))

    def to(self, network: nn.Module) -> float:
        """The mean divergence of a network's outputs from the original's."""
        total, count = 0.0, 0
        with evaluating(network), torch.no_grad():
            for inputs, theirs in self._batches:
                each = self._divergence(network(*inputs), theirs)
                total, count = total + float(each.sum()), count + each.numel()
        return total / count
