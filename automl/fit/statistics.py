"""What fitting needs to know of the calibration data, gathered once: Gram matrices of inputs, Fisher information."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn

from automl.fit.fisher import output_fisher
from automl.fit.gram import Gram, gather_grams, supported
from automl.tasks.problem import Problem
from search_spaces import LayerSlice


@dataclass(frozen=True)
class Moments:
    """What is known of the layers of the network at hand: their inputs, and what errors of their outputs cost."""

    inputs: Mapping[str, Tensor]
    """Layer -> augmented sums of the rows it multiplies: [groups, features + 1, features + 1], as `Gram.matrix`."""
    importance: Mapping[str, Tensor] = field(default_factory=dict)
    """Layer -> what a squared error of each of its outputs costs: [out]."""

    def joined(self, inputs: Mapping[str, Tensor | None], importance: Mapping[str, Tensor | None]) -> Moments:
        """The same with further layers, but for those of which nothing is known."""
        known = {name: matrix for name, matrix in inputs.items() if matrix is not None}
        costs = {name: cost for name, cost in importance.items() if cost is not None}
        return replace(self, inputs={**self.inputs, **known}, importance={**self.importance, **costs})


class Statistics:
    """The statistics of the original network's `layers`, each gathered when it is first asked for.

    Least squares, whitened decompositions and compensated rounding need nothing else. The first use needs the data of
    the problem, which a pickle leaves behind.
    """

    def __init__(self, network: fx.GraphModule, problem: Problem, layers: Sequence[str]) -> None:
        self.network = network
        self.layers = tuple(layers)
        self._problem: Problem | None = problem

    @cached_property
    def grams(self) -> dict[str, Gram]:
        """Layer -> the Gram matrix of its inputs, where one can be gathered."""
        assert self._problem is not None
        names = [name for name in self.layers if supported(self.network.get_submodule(name))]
        return gather_grams(self.network, names, self._problem.calibration)

    @cached_property
    def fisher(self) -> dict[str, Tensor]:
        """Layer -> the Fisher information of its outputs: [out]."""
        assert self._problem is not None
        return output_fisher(self.network, self.layers, self._problem)

    def moments(self, slices: Mapping[str, LayerSlice]) -> Moments:
        """What follows for the layers of a network that was cut to `slices`, if their inputs are what they were."""
        inputs, importance = {}, {}
        for name in self.layers:
            if name not in slices:
                continue
            layer, kept = self.network.get_submodule(name), slices[name]
            if name in self.grams and (matrix := _restricted(layer, self.grams[name], kept)) is not None:
                inputs[name] = matrix
            if name in self.fisher:
                importance[name] = self.fisher[name][torch.from_numpy(kept.kept_out)]
        return Moments(inputs, importance)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_problem": None}


def _restricted(layer: nn.Module, gram: Gram, kept: LayerSlice) -> Tensor | None:
    """The sums of the features that are left of a layer's input; None for a grouped layer that was cut."""
    groups, size = len(gram.matrix), gram.matrix.shape[1] - 1
    weight = layer.weight
    assert isinstance(weight, Tensor)
    kernel = weight[0, 0].numel()
    if len(kept.kept_in) == groups * size // kernel:
        return gram.matrix
    if groups > 1:
        return None
    features = (torch.from_numpy(kept.kept_in)[:, None] * kernel + torch.arange(kernel)).flatten()
    which = torch.cat([features, torch.tensor([size])])
    return gram.matrix[:, which[:, None], which]
