"""Integer weights whose rounding errors make up for each other, and what each number format costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, fx, nn

from agents import Sensitivity
from automl.config.evaluation import EvaluationOptions
from automl.config.method import MethodOptions
from automl.fit.base import Fitter
from automl.fit.held import in_book, on_grid
from automl.fit.moments import moments_of, same
from automl.fit.ranges import set_ranges
from automl.fit.round_layer import Rounded, round_coded, round_layer
from automl.fit.rounding import error
from automl.fit.shared_weights import SharedWeights, share_layer
from automl.fit.shift import add_shift, gain_after, takes_up_shift
from automl.fit.statistics import Moments, Statistics
from automl.tasks.batches import Batch
from automl.tasks.problem import Problem
from automl.training.methods.base import Method
from automl.training.methods.few_bits import FewBits
from search_spaces import Code, CodeStep
from search_spaces.codecs.number_formats import ALL_FORMATS, BY_LEVEL, NumberFormat
from search_spaces.graph.lone_norms import lone_norms
from search_spaces.graph.tensors import Layer
from search_spaces.pricing.metrics import FLOAT_BITS

Given = tuple[Tensor, Tensor | None, Tensor | None]
"""A weight, the moments of its inputs, if they are known, and what its outputs are multiplied by, if they are."""


class CodeFitter(Fitter[Code]):
    """Rounds weights with compensation from the Gram matrix of the layer's inputs (`automl.fit.rounding`), or has them
    share numbers (`automl.fit.shared_weights`)."""

    def __init__(self, operator: Code, options: EvaluationOptions) -> None:
        super().__init__(operator, options)
        self._known: dict[tuple[str, str], tuple[Given, Rounded | SharedWeights]] = {}
        """Layer and format -> from what it was rounded last, and what came of it."""

    @property
    def fits(self) -> bool:
        """Rounding is compensated by what the inputs of the layer are."""
        return True

    def layers(self) -> Sequence[str]:
        """All whose weights may be integers."""
        return [tensor.layers[0] for tensor in self.operator.tensors]

    def curves(self, statistics: Statistics, problem: Problem) -> Sensitivity:
        """Knob -> the error of the outputs in each format, weighted by their Fisher information.

        It is that of the weights; of inputs of 8 bits little is lost.
        """
        network, moments = self.operator.network, self.whole(statistics)
        norms = lone_norms(network)
        curves = {}
        for knob, name in zip(self.operator.knobs, self.layers(), strict=True):
            weight = network.get_parameter(f"{name}.weight").detach()
            forms = [BY_LEVEL[level] for level in knob.levels if level != FLOAT_BITS]
            rounded = zip(forms, self._rounded(network, name, forms, moments, norms), strict=True)
            costs = {form.level: _error(weight, found, moments, name) for form, found in rounded}
            errors = [costs.get(level, 0.0) for level in knob.levels]
            curves[knob.name] = np.maximum.accumulate(np.array(errors)[::-1])[::-1]
        return curves

    def loss(self, weight: Tensor, form: NumberFormat, moments: Moments, name: str) -> float:
        """What is lost with a weight in a format, in the unit of the curves, by what `moments` know as `name`."""
        given = (weight, moments.inputs.get(name), None)
        (rounded,) = self._made([form], given, intercept=True)
        return _error(weight, rounded, moments, name)

    def fit(self, network: fx.GraphModule, step: CodeStep, moments: Moments) -> tuple[fx.GraphModule, Moments]:
        """Round the weights, and let biases and norms take up what that does to mean outputs."""
        norms = lone_norms(network)
        found = {
            name: self._rounded(network, name, [ALL_FORMATS[form]], moments, norms)[0]
            for name, form in step.formats.items()
        }
        for name, rounded in found.items():
            add_shift(network, name, rounded.shift, norms)
        weights = replace(step, inputs={})
        return self.operator.rebuild(network, weights, partial(_quantize, found)), moments

    @property
    def observes(self) -> bool:
        """The ranges of quantized inputs are found on data."""
        return bool(self.operator.quantized_inputs.any())

    def complete(self, network: fx.GraphModule, step: CodeStep, observed: Sequence[Batch], dtype: torch.dtype) -> None:
        """Have layers read numbers of 8 bits, in the ranges of what they read by now."""
        if step.inputs:
            self.operator.rebuild(network, CodeStep(inputs=step.inputs))
            set_ranges(network, observed, dtype)

    def holding(self, network: nn.Module, step: CodeStep) -> AbstractContextManager[None]:
        """Weights stay integers of the same format times a scale of each output channel, or of the same centroids."""
        formats = {name: ALL_FORMATS[form] for name, form in step.formats.items()}
        if any(form.centroids for form in formats.values()):
            return in_book(network, formats)
        return on_grid(network, formats, pruned=self.operator.pruned)

    def methods(self, network: nn.Module, step: CodeStep, options: MethodOptions | None) -> list[Method]:
        """Weights are trained straight through their rounding."""
        formats = {name: ALL_FORMATS[form] for name, form in step.formats.items()}
        return [FewBits(formats, pruned=self.operator.pruned)] if formats else []

    def _rounded(
        self,
        network: fx.GraphModule,
        name: str,
        forms: Sequence[NumberFormat],
        moments: Moments,
        norms: Mapping[str, str],
    ) -> list[Rounded | SharedWeights]:
        """The weight of a layer in each of `forms`, worked out where it is not known."""
        weight = network.get_parameter(f"{name}.weight").detach()
        given = (weight, moments.inputs.get(name), gain_after(network, name, norms))
        new = [form for form in forms if not self._knows(name, form, given)]
        if new:
            intercept, kept = takes_up_shift(network, name, norms), (weight.clone(), *given[1:])
            for form, rounded in zip(new, self._made(new, given, intercept=intercept), strict=True):
                self._known[name, form.name] = (kept, rounded)
        return [self._known[name, form.name][1] for form in forms]

    def _knows(self, name: str, form: NumberFormat, given: Given) -> bool:
        known = self._known.get((name, form.name))
        return known is not None and all(map(same, known[0], given))

    def _made(
        self, forms: Sequence[NumberFormat], given: Given, *, intercept: bool
    ) -> Sequence[Rounded | SharedWeights]:
        """A weight in each of `forms`, which are of one family."""
        weight, matrix, gain = given
        pruned = self.operator.pruned
        if all(form.coded for form in forms):
            return round_coded(weight, forms, matrix, intercept=intercept, pruned=pruned, gain=gain)
        return [
            share_layer(weight, form, matrix, intercept=intercept)
            if form.centroids
            else round_layer(weight, form, matrix, intercept=intercept, pruned=pruned)
            for form in forms
        ]


def _quantize(
    found: Mapping[str, Rounded | SharedWeights], name: str, layer: Layer, form: NumberFormat, pruned: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    return found[name].weight, found[name].table, layer.bias


def _error(weight: Tensor, rounded: Rounded | SharedWeights, moments: Moments, name: str) -> float:
    """What the rounding costs: by output and group, in the unit of the surgeon; of unknown inputs as if they were 1."""
    before, after = weight.flatten(1), rounded.weight.flatten(1)
    importance = moments.importance.get(name, torch.ones(len(before), dtype=torch.float64))
    matrix = moments.inputs.get(name)
    if matrix is None:
        return float((after.double() - before.double()).square().sum(1) @ importance)
    parts = zip(*(x.chunk(len(matrix)) for x in (before, after, importance)), matrix, strict=True)
    return sum(error(w, q, moments_of(gram, intercept=True)[0], f) for w, q, f, gram in parts)
