"""Factors of a layer that its inputs make the best of, and what each rank costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, fx

from agents import Sensitivity
from automl.config.evaluation import EvaluationOptions
from automl.fast.fold import lone_norms
from automl.fit.base import Fitter
from automl.fit.low_rank import LowRank, decompose
from automl.fit.moments import moments_of
from automl.fit.shift import add_shift, takes_up_shift
from automl.fit.statistics import Moments, Statistics
from automl.tasks.problem import Problem
from search_spaces import LayerSlice, Rank, RankStep
from search_spaces.graph.tensors import Layer


class RankFitter(Fitter[Rank]):
    """Factorises layers by the singular value decomposition of their weights, whitened by their inputs."""

    def __init__(self, operator: Rank, options: EvaluationOptions) -> None:
        super().__init__(operator, options)
        self._known: dict[str, tuple[Tensor, LowRank]] = {}
        """Layer -> the weight decomposed last, and what came of it."""

    def layers(self) -> Sequence[str]:
        """All that may be factorised."""
        return [tensor.layers[0] for tensor in self.operator.tensors]

    def curves(self, statistics: Statistics, problem: Problem) -> Sensitivity:
        """Knob -> what is lost of the outputs at the rank of each level, weighted by their Fisher information."""
        operator, network = self.operator, self.operator.network
        moments = statistics.moments(_whole(operator))
        norms = lone_norms(network)
        levels = {level for knob in operator.knobs for level in knob.levels}
        ranks = {level: operator.ranks(operator.basis.whole, _all(operator, level)) for level in levels}
        curves = {}
        for i, (knob, layer) in enumerate(zip(operator.knobs, self.layers(), strict=True)):
            errors = self._decomposed(network, layer, moments, norms).errors.numpy()
            curves[knob.name] = np.array([errors[int(r)] if (r := ranks[level][i]) else 0.0 for level in knob.levels])
        return curves

    def fit(self, network: fx.GraphModule, step: RankStep, moments: Moments) -> tuple[fx.GraphModule, Moments]:
        """Put two layers in the place of each, and work out what the second of them reads."""
        norms = lone_norms(network)
        found = {name: self._decomposed(network, name, moments, norms) for name in step.ranks}
        importance = {name: moments.importance.get(name) for name in step.ranks}
        for name, rank in step.ranks.items():
            add_shift(network, name, found[name].shift(rank), norms)
        network = self.operator.rebuild(network, step, partial(_split, found))
        inputs: dict[str, Tensor | None] = {}
        costs: dict[str, Tensor | None] = {}
        for name, rank in step.ranks.items():
            u, v = found[name].factors(rank)
            matrix, cost = moments.inputs.get(name), importance[name]
            inputs[f"{name}.0"], inputs[f"{name}.1"] = matrix, None if matrix is None else _through(matrix, v)
            costs[f"{name}.0"], costs[f"{name}.1"] = None if cost is None else u.square().T @ cost, cost
        return network, moments.joined(inputs, costs)

    def _decomposed(self, network: fx.GraphModule, name: str, moments: Moments, norms: Mapping[str, str]) -> LowRank:
        weight = network.get_parameter(f"{name}.weight").detach()
        known = self._known.get(name)
        matrix, intercept = moments.inputs.get(name), takes_up_shift(network, name, norms)
        if known is not None and known[0].shape == weight.shape and torch.equal(known[0], weight):
            return known[1]
        second, mean = (None, None) if matrix is None else moments_of(matrix[0], intercept=intercept)
        found = decompose(weight.flatten(1), second, moments.importance.get(name), mean)
        self._known[name] = (weight.clone(), found)
        return found


def _whole(operator: Rank) -> dict[str, LayerSlice]:
    """What every layer keeps of the original: all."""
    return operator.basis.recorded.slices(operator.basis.recorded.whole)


def _all(operator: Rank, level: int) -> np.ndarray:
    return np.full(len(operator.knobs), level)


def _split(found: Mapping[str, LowRank], name: str, layer: Layer, rank: int) -> tuple[Tensor, Tensor, Tensor | None]:
    return (*found[name].factors(rank), layer.bias)


def _through(matrix: Tensor, v: Tensor) -> Tensor:
    """The augmented sums of V x from those of x: [1, rank + 1, rank + 1]."""
    more = torch.zeros(len(v) + 1, v.shape[1] + 1, dtype=torch.float64)
    more[:-1, :-1], more[-1, -1] = v, 1.0
    return more @ matrix @ more.T
