"""What operators do to single layers, fitted: as trials are, from the original's inputs, or layer after layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, fx

from automl.fit.base import Fitter
from automl.fit.gram import gram_of, supported
from automl.fit.sequential import SequentialReconstruction
from automl.fit.statistics import Moments, Statistics
from search_spaces import LayerSlice, Step

Fitters = Mapping[str, Fitter[Any]]
"""Operator -> its fitter."""


class Refit(Protocol):
    """Gives the layers of a network that was cut the weights that make up best for what is gone."""

    def apply(self, network: fx.GraphModule, slices: Mapping[str, LayerSlice], steps: Sequence[Step] = ()) -> None:
        """Overwrite weights of `network`, cut to `slices`, and do to it what `steps` say, in place."""


class Slicewise(Protocol):
    """Refits the layers of a network that was cut, and does nothing else to it."""

    def apply(self, network: fx.GraphModule, slices: Mapping[str, LayerSlice]) -> None:
        """Overwrite weights of `network`, cut to `slices`, in place."""


class AsSearched:
    """Refits a network as trials are, and then takes one step after the other on what the original's inputs say."""

    def __init__(self, refit: Slicewise | None, fitters: Fitters, statistics: Statistics | None) -> None:
        """`statistics`: None where no fitter asks for any."""
        self._refit, self._fitters, self._statistics = refit, fitters, statistics

    def apply(self, network: fx.GraphModule, slices: Mapping[str, LayerSlice], steps: Sequence[Step] = ()) -> None:
        """Overwrite weights of `network`, cut to `slices`, and do to it what `steps` say, in place."""
        if self._refit is not None:
            self._refit.apply(network, slices)
        moments = Moments({}) if self._statistics is None else self._statistics.moments(slices)
        for step in steps:
            network, moments = self._fitters[step.operator].fit(network, step, moments)


class LayerByLayer:
    """Refits layer after layer, and takes all steps on a layer before the next one is looked at.

    What a layer reads is what the layers before it really make by then, factorised, pruned and rounded as they are, and
    what it is to make is what the original makes there: so each layer makes up for those before it.
    """

    def __init__(
        self,
        sequential: SequentialReconstruction,
        fitters: Fitters | None = None,
        statistics: Statistics | None = None,
    ) -> None:
        self._sequential, self._fitters, self._statistics = sequential, fitters or {}, statistics

    def apply(self, network: fx.GraphModule, slices: Mapping[str, LayerSlice], steps: Sequence[Step] = ()) -> None:
        """Overwrite weights of `network`, cut to `slices`, and do to it what `steps` say, in place."""
        if not steps:
            self._sequential.apply(network, slices)
            return
        known = Moments({}) if self._statistics is None else self._statistics.moments(slices)
        done: set[str] = set()

        def take(layer: str, x: Tensor) -> None:
            parts = [part for step in steps if (part := step.of(layer)) is not None]
            if not parts or layer in done:
                return
            done.add(layer)
            module = network.get_submodule(layer)
            costs = {layer: known.importance[layer]} if layer in known.importance else {}
            with torch.inference_mode(False):  # new weights must be such as can be trained
                moments = Moments({layer: gram_of(module, x).matrix} if supported(module) else {}, costs)
                for part in parts:
                    _, moments = self._fitters[part.operator].fit(network, part, moments)

        self._sequential.apply(network, slices, take)
        for step in steps:  # on layers that are parts of a call
            rest = step.but(done)
            if rest is not None:
                self._fitters[step.operator].fit(network, rest, known)
