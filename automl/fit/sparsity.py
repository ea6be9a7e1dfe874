"""From a Point of a `WeightSpace` to its network: which single weights of each layer stay, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from agents import Sensitivity
from automl.config.evaluation import sparse_settings
from automl.export.packed import packed_bytes
from automl.fit.builder import Builder
from automl.fit.fisher import output_fisher
from automl.fit.gram import watch_inputs
from automl.measures import count_macs
from automl.tasks.problem import Batch, Problem
from automl.training.methods.base import KeepZeros, Regulariser
from automl.types import Measurement
from search_spaces import WeightSpace
from search_spaces.codecs.bitmask import stored
from search_spaces.graph.tensors import WeightTensor, along_inputs, along_outputs


class SparseBuilder(Builder):
    """Builds the networks of a space of single weights; the same Point always gives the same network.

    In each tensor the weights of the highest score stay: their magnitude, or |weight| times the root mean square of
    the input channel it reads, over the calibration samples (Sun et al. 2024, "Wanda", arXiv 2306.11695, equation 1;
    compared within the whole tensor, so that its rows may differ in how much they keep). Batch norms are then
    re-estimated; weights that stay keep their values.

    `params` are counted as those that are not zero, `size_bytes` as the length of the packed file. `macs` and latency
    are those of the dense network: ordinary kernels multiply by zero like by any other number.
    """

    space: WeightSpace  # type: ignore[assignment]

    def _gather(self, problem: Problem) -> None:
        options = self.options
        sparse_settings({"importance": options.importance, "reconstruction": options.reconstruction})
        if options.importance == "activation":
            self._scores = input_scales(self.space, problem.calibration)

    def sensitivity(self, problem: Problem) -> Sensitivity:
        """Tensor -> what the weights removed at each level are worth, each by itself: [n_levels].

        The sum over the weights removed of F[out] * weight^2 * E[x_in^2], with the Fisher information of its output
        and the mean square of its input: twice the rise of the loss, if their errors were independent. The first call
        takes a pass back over calibration samples.
        """
        if self._sensitivity is None:
            self._sensitivity = self._curves(problem)
        return self._sensitivity

    def _curves(self, problem: Problem) -> dict[str, np.ndarray]:
        scales = input_scales(self.space, problem.calibration)
        layers = [layer for tensor in self.space.tensors for layer in tensor.layers]
        fisher = output_fisher(self.space.original, layers, problem)
        curves = {}
        for tensor, knob in zip(self.space.tensors, self.space.knobs, strict=True):
            worth = self._worth(tensor, scales, fisher)
            first = torch.argsort(self.space.rank(tensor.name, tuple(self._scores.get(tensor.name, ()))).flatten())
            kept = worth.flatten()[first].cumsum(0)[torch.tensor(knob.levels) - 1]
            curves[tensor.name] = (kept[-1] - kept).clamp_min(0).numpy()
        return curves

    def _worth(self, tensor: WeightTensor, scales: Mapping[str, np.ndarray], fisher: Mapping[str, Tensor]) -> Tensor:
        """Estimated loss without each weight, as the weight. What is not known of a layer counts as 1."""
        layer = self.space.layer(tensor.name)
        worth = layer.weight.detach().double().square()
        if tensor.name in scales:
            worth = worth * along_inputs(layer, torch.from_numpy(scales[tensor.name]).square())
        known = [fisher[name] for name in tensor.layers if name in fisher]
        return worth * along_outputs(layer, torch.stack(known).sum(0)) if known else worth

    def regularisers(self, network: nn.Module) -> list[Regulariser]:
        """Zeros stay zeros."""
        return [KeepZeros(network, [tensor.name for tensor in self.space.tensors])]

    def counts(self, network: nn.Module, example_inputs: Sequence[Tensor]) -> list[Measurement]:
        """MACs per sample of the dense network, parameters that are not zero, bytes of the packed file."""
        return [
            Measurement("macs", count_macs(network, example_inputs), "MAC"),
            Measurement("params", sum(int(stored(parameter).sum()) for parameter in network.parameters())),
            Measurement("size_bytes", packed_bytes(network), "B"),
        ]

    def thorough(self, problem: Problem, *, blockwise: bool) -> Builder:
        """This builder: it refits nothing, so that there is nothing to refit with care."""
        return self


def input_scales(space: WeightSpace, batches: Sequence[Batch]) -> dict[str, np.ndarray]:
    """Tensor -> root mean square of each input channel of its layers over `batches`, to four digits: [in channels].

    A tensor whose layers are not called themselves (inside of attention) has none.
    """
    sums = {tensor.name: _MeanSquare() for tensor in space.tensors}
    network = space.original
    watchers = {
        layer: partial(sums[tensor.name].add, network.get_submodule(layer))
        for tensor in space.tensors
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
