"""Of two ways to refit a network, the one that comes closer to the original: which it is depends on the network."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import fx

from automl.fit.distance import Distance
from automl.fit.layerwise import Refit
from automl.fit.recalibration import recalibrate
from automl.tasks.batches import Batch
from search_spaces import LayerSlice, Step


class WithNorms:
    """Refits a network, and estimates the statistics of its batch norms anew."""

    def __init__(self, refit: Refit, batches: Sequence[Batch], dtype: torch.dtype) -> None:
        """`batches`: in `dtype`, in which they go through the network."""
        self._refit, self._batches, self._dtype = refit, batches, dtype

    def apply(self, network: fx.GraphModule, slices: Mapping[str, LayerSlice], steps: Sequence[Step] = ()) -> None:
        """Overwrite weights and statistics of `network`, cut to `slices`, and take `steps`, in place."""
        self._refit.apply(network, slices, steps)
        recalibrate(network, self._batches, self._dtype)


class CloserRefit:
    """Refits a network in two ways and keeps the weights whose outputs diverge less from the original's.

    The careful fit layer after layer is usually the better one. Where errors do not add up along the depth, as under
    the norms of a transformer, it may lose to least squares from the original's inputs, by which the search had chosen.
    """

    def __init__(self, careful: Refit, searched: Refit, distance: Distance) -> None:
        """`distance`: from the original, on data that neither fits."""
        self._careful, self._searched, self._distance = careful, searched, distance

    def apply(self, network: fx.GraphModule, slices: Mapping[str, LayerSlice], steps: Sequence[Step] = ()) -> None:
        """Overwrite weights of `network`, cut to `slices`, and take `steps`, in place; of equals with care."""
        other = copy.deepcopy(network)
        self._careful.apply(network, slices, steps)
        self._searched.apply(other, slices, steps)
        if self._distance.to(other) < self._distance.to(network):
            network.load_state_dict(other.state_dict())
