"""Of two ways to refit a network, the one that comes closer to the original: which it is depends on the network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, fx, nn

from automl.fast.precision import first
from automl.fit.recalibration import recalibrate
from automl.tasks.batches import Batch
from automl.tasks.imitation import Imitation
from automl.util.modes import evaluating
from search_spaces import LayerSlice

SAMPLES = 256
"""Of the data on which two refits are compared."""


class Refit(Protocol):
    """Gives the layers of a network that was cut the weights that make up best for what is gone."""

    def apply(self, network: fx.GraphModule, slices: Mapping[str, LayerSlice]) -> None:
        """Overwrite weights of `network`, cut to `slices`, in place."""


class WithNorms:
    """Refits a network, and estimates the statistics of its batch norms anew."""

    def __init__(self, refit: Refit, batches: Sequence[Batch], dtype: torch.dtype) -> None:
        """`batches`: in `dtype`, in which they go through the network."""
        self._refit, self._batches, self._dtype = refit, batches, dtype

    def apply(self, network: fx.GraphModule, slices: Mapping[str, LayerSlice]) -> None:
        """Overwrite weights and statistics of `network`, cut to `slices`, in place."""
        self._refit.apply(network, slices)
        recalibrate(network, self._batches, self._dtype)


class CloserRefit:
    """Refits a network in two ways and keeps the weights whose outputs diverge less from the original's.

    The careful fit layer after layer is usually the better one. Where errors do not add up along the depth, as under
    the norms of a transformer, it may lose to least squares from the original's inputs, by which the search had chosen.
    """

    def __init__(
        self,
        careful: Refit,
        searched: Refit,
        original: nn.Module,
        batches: Sequence[Batch],
        divergence: Callable[[Any, Any], Tensor],
    ) -> None:
        """`batches`: data that neither fits, of which the inputs are looked at; `divergence`: as of `Kind`."""
        self._careful, self._searched, self._divergence = careful, searched, divergence
        self._batches = Imitation(original).batches(first(batches, SAMPLES))

    def apply(self, network: fx.GraphModule, slices: Mapping[str, LayerSlice]) -> None:
        """Overwrite weights of `network`, cut to `slices`, in place; where both are as close, with care."""
        other = copy.deepcopy(network)
        self._careful.apply(network, slices)
        self._searched.apply(other, slices)
        if self._distance(other) < self._distance(network):
            network.load_state_dict(other.state_dict())

    def _distance(self, network: nn.Module) -> float:
        """The mean divergence of the outputs from the original's."""
        total, count = 0.0, 0
        with evaluating(network), torch.no_grad():
            for inputs, theirs in self._batches:
                each = self._divergence(network(*inputs), theirs)
                total, count = total + float(each.sum()), count + each.numel()
        return total / count
