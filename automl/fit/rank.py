"""Factors of a layer that its inputs make the best of, and what each rank costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
from torch import Tensor, fx

from agents import Sensitivity
from automl.config.evaluation import EvaluationOptions
from automl.fit.base import Fitter
from automl.fit.cp import Cp
from automl.fit.low_rank import of_layer
from automl.fit.moments import moments_of, same
from automl.fit.separable import Separable
from automl.fit.shift import add_shift, takes_up_shift
from automl.fit.statistics import Moments, Statistics
from automl.fit.through_factors import costs_between, moments_between
from automl.fit.tucker import Tucker
from automl.tasks.problem import Problem
from search_spaces import Knob, Rank, RankStep
from search_spaces.graph.lone_norms import lone_norms
from search_spaces.graph.tensors import Layer
from search_spaces.operators.factors import Ranks


class Decomposition(Protocol):
    """The factors of a layer at any rank, or of `tucker` at any two."""

    def weights(self, rank: Any) -> Sequence[Tensor]:
        """Those of its factors, in the order in which they are called, each in the shape that it has."""

    def error(self, rank: Any) -> float:
        """The squared error of the outputs, weighted by their importance."""

    def shift(self, rank: Any) -> Tensor:
        """What the bias has to gain so that the mean outputs stay: [made]."""


DECOMPOSITIONS: Mapping[str, Callable[[Tensor, Tensor | None, Tensor | None, Tensor | None], Decomposition]] = {
    "svd": of_layer,
    "separable": Separable,
    "tucker": Tucker,
    "cp": Cp,
}
"""Scheme -> what decomposes a weight, given second moments of its inputs, importance of its outputs and mean inputs."""


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
        moments = self.whole(statistics)
        norms = lone_norms(network)
        levels = {level for knob in operator.knobs for level in knob.levels}
        ranks = {level: operator.ranks(operator.basis.whole, _all(operator, level)) for level in levels}
        curves = {}
        for i, (knob, layer, site) in enumerate(zip(operator.knobs, self.layers(), operator.sites, strict=True)):
            found = self._decomposed(network, layer, operator.scheme(int(site)), moments, norms)
            errors = [0.0 if (r := ranks[level][i]) is None else found.error(_rank(r)) for level in knob.levels]
            curves[knob.name] = np.maximum.accumulate(errors[::-1])[::-1]
        return curves

    def factors(self, statistics: Statistics) -> Iterator[tuple[Knob, str, Sequence[Tensor], Moments]]:
        """Each knob, its layer, its factors at the middle of its ranks, and what is known of those, by their numbers.

        Layers of whose inputs nothing is known are passed over.
        """
        operator, network = self.operator, self.operator.network
        moments, norms = self.whole(statistics), lone_norms(network)
        middle = np.array([knob.levels[(len(knob.levels) - 1) // 2] for knob in operator.knobs])
        found = zip(operator.knobs, self.layers(), operator.ranks(operator.basis.whole, middle), strict=True)
        for (knob, name, ranks), site in zip(found, operator.sites.tolist(), strict=True):
            if ranks is None or name not in moments.inputs or name not in moments.importance:
                continue
            parts = self._decomposed(network, name, operator.scheme(site), moments, norms).weights(_rank(ranks))
            inputs = moments_between(moments.inputs[name], parts)
            costs = costs_between(moments.importance[name], parts)
            yield knob, name, parts, Moments(_numbered(inputs), _numbered(costs))

    def fit(self, network: fx.GraphModule, step: RankStep, moments: Moments) -> tuple[fx.GraphModule, Moments]:
        """Put layers in a row in the place of each, and work out what they read."""
        norms = lone_norms(network)
        found = {name: self._decomposed(network, name, step.scheme(name), moments, norms) for name in step.ranks}
        for name in step.ranks:
            add_shift(network, name, found[name].shift(_rank(step.ranks_of(name))), norms)
        network = self.operator.rebuild(network, step, partial(_split, found))
        inputs: dict[str, Tensor | None] = {}
        costs: dict[str, Tensor | None] = {}
        for name in step.ranks:
            weights = found[name].weights(_rank(step.ranks_of(name)))
            factors = [f"{name}.{i}" for i in range(len(weights))]
            matrix, cost = moments.inputs.get(name), moments.importance.get(name)
            if matrix is not None:
                inputs |= zip(factors, moments_between(matrix, weights), strict=True)
            if cost is not None:
                costs |= zip(factors, costs_between(cost, weights), strict=True)
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
        found: Decomposition = DECOMPOSITIONS[scheme](weight, second, importance, mean)
        self._known[name] = (weight.clone(), matrix, found)
        return found


def _all(operator: Rank, level: int) -> np.ndarray:
    return np.full(len(operator.knobs), level)


def _numbered(values: Sequence[Tensor]) -> dict[str, Tensor]:
    return {str(i): value for i, value in enumerate(values)}


def _rank(ranks: Ranks) -> Ranks | int:
    """What a `Decomposition` is asked for: one number or two."""
    return ranks[0] if len(ranks) == 1 else ranks


def _split(
    found: Mapping[str, Decomposition], name: str, layer: Layer, ranks: Ranks, scheme: str
) -> tuple[Sequence[Tensor], Tensor | None]:
    return found[name].weights(_rank(ranks)), layer.bias
