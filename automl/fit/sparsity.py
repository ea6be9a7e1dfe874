"""Which single weights of each layer stay, and what removing them costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.modules.conv import _ConvNd

from agents import Sensitivity
from automl.config.evaluation import EvaluationOptions
from automl.fit.base import Fitter
from automl.fit.gram import watch_inputs
from automl.fit.statistics import Moments, Statistics
from automl.tasks.batches import Batch
from automl.tasks.problem import Problem
from automl.training.methods.base import KeepZeros, Regulariser
from search_spaces import Sparsity, SparsityStep
from search_spaces.graph.tensors import Layer, WeightTensor, along_inputs, along_outputs
from search_spaces.operators.sparsity import rank_weights, ranked


class SparsityFitter(Fitter[Sparsity]):
    """Keeps in each tensor the weights of the highest score.

    Their magnitude, or |weight| times the root mean square of the input channel it reads, over the calibration samples
    (Sun et al. 2024, "Wanda", arXiv 2306.11695, equation 1; compared within the whole tensor, so that its rows may
    differ in how much they keep). Weights that stay keep their values.
    """

    def __init__(self, operator: Sparsity, options: EvaluationOptions) -> None:
        super().__init__(operator, options)
        self._scales: Mapping[str, np.ndarray] = {}
        self._ranks: dict[str, tuple[tuple[float, ...], Tensor]] = {}
        """Tensor -> a scale of its inputs, and the ranks of the original's weights by it."""

    def scores(self, statistics: Statistics, problem: Problem) -> Mapping[str, np.ndarray]:
        """Tensor -> the scale of each of its input channels: [in channels]."""
        if self.options.importance != "magnitude":
            self._scales = input_scales(self.operator, problem.calibration)
        return self._scales

    def curves(self, statistics: Statistics, problem: Problem) -> Sensitivity:
        """Tensor -> what the weights removed at each level are worth, each by itself: [n_levels].

        The sum over the weights removed of F[out] * weight^2 * E[x_in^2], with the Fisher information of its output
        and the mean square of its input: twice the rise of the loss, if their errors were independent.
        """
        operator, fisher = self.operator, statistics.fisher
        scales = input_scales(operator, problem.calibration)
        curves = {}
        for tensor, knob in zip(operator.tensors, operator.knobs, strict=True):
            worth = self._worth(tensor, scales, fisher)
            order = rank_weights(operator.layer(tensor.name), tuple(self._scales.get(tensor.name, ())))
            first = torch.argsort(order.flatten())
            kept = worth.flatten()[first].cumsum(0)[torch.tensor(knob.levels) - 1]
            curves[knob.name] = (kept[-1] - kept).clamp_min(0).numpy()
        return curves

    def layers(self) -> Sequence[str]:
        """All that may lose weights."""
        return [layer for tensor in self.operator.tensors for layer in tensor.layers]

    def _worth(self, tensor: WeightTensor, scales: Mapping[str, np.ndarray], fisher: Mapping[str, Tensor]) -> Tensor:
        """Estimated loss without each weight, as the weight. What is not known of a layer counts as 1."""
        layer = self.operator.layer(tensor.name)
        worth = layer.weight.detach().double().square()
        if tensor.name in scales:
            worth = worth * along_inputs(layer, torch.from_numpy(scales[tensor.name]).square())
        known = [fisher[name] for name in tensor.layers if name in fisher]
        return worth * along_outputs(layer, torch.stack(known).sum(0)) if known else worth

    def fit(self, network: fx.GraphModule, step: SparsityStep, moments: Moments) -> tuple[fx.GraphModule, Moments]:
        """Set the weights that go to 0. A tensor that is narrowed or factorised is scored by its inputs as they are."""
        return self.operator.rebuild(network, step, partial(self._rank, moments)), moments

    def _rank(self, moments: Moments, name: str, layer: Layer, scale: tuple[float, ...]) -> Tensor:
        if name in {tensor.name for tensor in self.operator.tensors}:
            original = self.operator.layer(name).weight
            if original.shape == layer.weight.shape and torch.equal(original, layer.weight):
                return self._original_rank(name, scale)
        matrix = moments.inputs.get(name.rpartition(".")[0])
        if self.options.importance == "magnitude" or matrix is None:
            return rank_weights(layer, scale)
        power = (matrix.diagonal(dim1=1, dim2=2)[:, :-1] / matrix[:, -1:, -1]).sqrt()  # [groups, features]
        weight = layer.weight.detach().double()
        scores = weight.abs().view(len(power), -1, power.shape[1]) * power[:, None]
        return ranked(scores.view(weight.shape))

    def _original_rank(self, name: str, scale: tuple[float, ...]) -> Tensor:
        known = self._ranks.get(name)
        if known is None or known[0] != scale:
            known = self._ranks[name] = (scale, rank_weights(self.operator.layer(name), scale))
        return known[1]

    def regularisers(self, network: nn.Module, step: SparsityStep) -> list[Regulariser]:
        """Zeros stay zeros."""
        return [KeepZeros(network, list(step.counts))]


def input_scales(operator: Sparsity, batches: Sequence[Batch]) -> dict[str, np.ndarray]:
    """Tensor -> root mean square of each input channel of its layers over `batches`, to four digits: [in channels].

    A tensor whose layers are not called themselves (inside of attention) has none.
    """
    sums = {tensor.name: _MeanSquare() for tensor in operator.tensors}
    network = operator.network
    watchers = {
        layer: partial(sums[tensor.name].add, network.get_submodule(layer))
        for tensor in operator.tensors
        for layer in tensor.layers
    }
    watch_inputs(network, watchers, batches)
    # Few digits keep a Plan short, and rank as well.
    return {
        name: np.array([float(f"{x:.4g}") for x in (mean.total / mean.count).sqrt().tolist()])
        for name, mean in sums.items()
        if mean.count
    }


class _MeanSquare:
    """Adds up the squares of what each channel holds."""

    def __init__(self) -> None:
        self.total: Tensor = torch.zeros(())
        self.count = 0

    def add(self, layer: nn.Module, x: Tensor) -> None:
        channel = x.ndim - 1 - len(layer.kernel_size) if isinstance(layer, _ConvNd) else x.ndim - 1
        squares = x.movedim(channel, 0).flatten(1) if x.ndim > 1 else x[:, None]
        self.total = self.total + squares.float().square().mean(1).double() * squares.shape[1]
        self.count += squares.shape[1]
