"""Factors of a layer that its inputs make the best of, and what each rank costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, fx

from agents import Sensitivity
from automl.config.evaluation import EvaluationOptions
from automl.fast.fold import lone_norms
from automl.fit.base import Fitter
from automl.fit.low_rank import decompose
from automl.fit.moments import moments_of, same
from automl.fit.separable import Separable
from automl.fit.shift import add_shift, takes_up_shift
from automl.fit.statistics import Moments, Statistics
from automl.tasks.problem import Problem
from search_spaces import LayerSlice, Rank, RankStep
from search_spaces.graph.tensors import Layer


class Decomposition(Protocol):
    """The factors of a layer at any rank."""

    def factors(self, rank: int) -> tuple[Tensor, Tensor]:
        """U: [rows, rank] and V: [rank, columns]."""

    def error(self, rank: int) -> float:
        """The squared error of the outputs, weighted by their importance."""

    def shift(self, rank: int) -> Tensor:
        """What the bias has to gain so that the mean outputs stay: [made]."""


class RankFitter(Fitter[Rank]):
    """Factorises layers so that their outputs, on the inputs that they get, change as little as can be."""

    def __init__(self, operator: Rank, options: EvaluationOptions) -> None:
        super().__init__(operator, options)
        self._known: dict[str, tuple[Tensor, Tensor | None, Decomposition]] = {}
        """Layer -> the weight decomposed last, the moments of its inputs, and what came of it."""

    @property
    def fits(self) -> bool:
        """Factors are those that the inputs of the layer make the best of."""
        return True

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
        for i, (knob, layer, site) in enumerate(zip(operator.knobs, self.layers(), operator.sites, strict=True)):
            found = self._decomposed(network, layer, operator.scheme(int(site)), moments, norms)
            errors = [found.error(int(r)) if (r := ranks[level][i]) else 0.0 for level in knob.levels]
            curves[knob.name] = np.maximum.accumulate(errors[::-1])[::-1]
        return curves

    def fit(self, network: fx.GraphModule, step: RankStep, moments: Moments) -> tuple[fx.GraphModule, Moments]:
        """Put two layers in the place of each, and work out what they read."""
        norms = lone_norms(network)
        found = {name: self._decomposed(network, name, step.scheme(name), moments, norms) for name in step.ranks}
        for name, rank in step.ranks.items():
            add_shift(network, name, found[name].shift(rank), norms)
        network = self.operator.rebuild(network, step, partial(_split, found))
        inputs: dict[str, Tensor | None] = {}
        costs: dict[str, Tensor | None] = {}
        for name, rank in step.ranks.items():
            u, v = found[name].factors(rank)
            matrix, cost = moments.inputs.get(name), moments.importance.get(name)
            columns = network.get_parameter(f"{name}.1.weight").shape[-1] if step.scheme(name) == "separable" else 1
            inputs[f"{name}.0"] = None if matrix is None else _of_one_column(matrix, columns)
            inputs[f"{name}.1"] = None if matrix is None else _through(matrix, v, columns)
            costs[f"{name}.0"] = None if cost is None else u.square().T @ cost.repeat_interleave(columns)
            costs[f"{name}.1"] = cost
        return network, moments.joined(inputs, costs)

    def _decomposed(
        self, network: fx.GraphModule, name: str, scheme: str, moments: Moments, norms: Mapping[str, str]
    ) -> Decomposition:
        weight = network.get_parameter(f"{name}.weight").detach()
        known, matrix = self._known.get(name), moments.inputs.get(name)
        if known is not None and same(known[0], weight) and same(known[1], matrix):
            return known[2]
        intercept = takes_up_shift(network, name, norms)
        second, mean = (None, None) if matrix is None else moments_of(matrix[0], intercept=intercept)
        importance = moments.importance.get(name)
        found: Decomposition
        if scheme == "separable":
            found = Separable(weight, second, importance, mean)
        else:
            found = decompose(weight.flatten(1), second, importance, mean)
        self._known[name] = (weight.clone(), matrix, found)
        return found


def _whole(operator: Rank) -> dict[str, LayerSlice]:
    """What every layer keeps of the original: all."""
    return operator.basis.recorded.slices(operator.basis.recorded.whole)


def _all(operator: Rank, level: int) -> np.ndarray:
    return np.full(len(operator.knobs), level)


def _split(
    found: Mapping[str, Decomposition], name: str, layer: Layer, rank: int, scheme: str
) -> tuple[Tensor, Tensor, Tensor | None]:
    return (*found[name].factors(rank), layer.bias)


def _of_one_column(matrix: Tensor, columns: int) -> Tensor:
    """The augmented sums of one column of the kernel, the mean of those of each: [1, n + 1, n + 1]."""
    if columns == 1:
        return matrix
    n = (matrix.shape[1] - 1) // columns
    parts = []
    for column in range(columns):
        which = torch.cat([torch.arange(n) * columns + column, torch.tensor([n * columns])])
        parts.append(matrix[:, which[:, None], which])
    return torch.stack(parts).mean(0)


def _through(matrix: Tensor, v: Tensor, columns: int) -> Tensor:
    """The augmented sums of V x, at each column of the kernel, from those of x: [1, n + 1, n + 1]."""
    rows = torch.kron(v.contiguous(), torch.eye(columns, dtype=v.dtype))  # [rank * columns, features]
    more = torch.zeros(len(rows) + 1, rows.shape[1] + 1, dtype=torch.float64)
    more[:-1, :-1], more[-1, -1] = rows, 1.0
    return more @ matrix @ more.T
