"""Second moments of layer inputs: all that least squares needs to know of the calibration data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl.tasks.batches import Batch
from automl.util.modes import evaluating

MAX_FEATURES = 8192
"""A layer with more input features gets no Gram matrix: at float64 one of this size takes half a gigabyte, and no
calibration set of usual size determines so many weights. Such a layer keeps its sliced weights."""

CHUNK_ENTRIES = 16_000_000
"""Entries of the feature matrix that exist at once: 64 MB in float32."""


@dataclass(frozen=True)
class Gram:
    """The augmented second moments G = sum of [x 1]^T [x 1] over all rows x that a layer multiplies.

    For a convolution a row is one patch: features run over input channels, then kernel positions, as in its
    weight flattened to [out, features]. A grouped convolution has one matrix a group.
    """

    matrix: Tensor
    """[groups, features + 1, features + 1], float64; the last entry is the number of rows."""
    input_dims: int
    """Dimensions of the layer's input tensor, batch included."""

    @property
    def power(self) -> Tensor:
        """Mean square of each feature: [groups, features]."""
        return mean_squares(self.matrix)


def mean_squares(matrix: Tensor) -> Tensor:
    """The mean square of each feature, [groups, features], from augmented sums as of `Gram.matrix`."""
    return matrix.diagonal(dim1=1, dim2=2)[:, :-1] / matrix[:, -1:, -1]


def supported(layer: nn.Module) -> TypeGuard[nn.Conv2d | nn.Linear]:
    """Whether a Gram matrix can be gathered: Conv2d of any geometry and Linear; 1-D, 3-D and transposed cannot."""
    if isinstance(layer, nn.Conv2d):
        return layer.weight[0].numel() <= MAX_FEATURES
    return isinstance(layer, nn.Linear) and layer.in_features <= MAX_FEATURES


def gather_grams(
    network: nn.Module, names: Sequence[str], batches: Sequence[Batch], *, rows: int = 20_000, seed: int = 0
) -> dict[str, Gram]:
    """The Gram matrices of the layers `names` of `network` in eval mode, from one pass over `batches`.

    Where a feature map has more positions than are needed for `rows` rows a layer (or 32 a feature, if that is
    more), positions are drawn at random for every chunk of samples, as AMC does (He et al. 2018, section 3.3). On
    ResNet-56 five times as many rows changed no accuracy by more than 0.2 points.
    Products are taken in float32 and summed in float64. Hooks are removed again.
    """
    samples = sum(len(targets) for _, targets in batches)
    gathered = {name: _Accumulator(network.get_submodule(name), rows, samples, seed) for name in names}
    watch_inputs(network, {name: accumulator.add for name, accumulator in gathered.items()}, batches)
    return {name: Gram(a.matrix.clone(), a.input_dims) for name, a in gathered.items() if a.input_dims}


def gram_of(layer: nn.Module, x: Tensor, *, rows: int = 20_000, seed: int = 0) -> Gram:
    """The Gram matrix of one layer that is `supported`, from what it reads: x, [n, ...]."""
    accumulator = _Accumulator(layer, rows, len(x), seed)
    with torch.no_grad():
        accumulator.add(x)
    return Gram(accumulator.matrix.clone(), accumulator.input_dims)


def watch_inputs(
    network: nn.Module, watchers: Mapping[str, Callable[[Tensor], None]], batches: Sequence[Batch]
) -> None:
    """Run `network` on `batches` in eval mode, and hand what each layer named is given to its watcher."""

    def see(watcher: Callable[[Tensor], None], layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        watcher(args[0] if args else kwargs["input"])

    hooks = [
        network.get_submodule(name).register_forward_pre_hook(partial(see, watcher), with_kwargs=True)
        for name, watcher in watchers.items()
    ]
    try:
        with evaluating(network), torch.inference_mode():
            for inputs, _ in batches:
                network(*inputs)
    finally:
        for hook in hooks:
            hook.remove()


class _Accumulator:
    """Adds up the Gram matrix of one layer."""

    def __init__(self, layer: nn.Module, rows: int, samples: int, seed: int) -> None:
        assert isinstance(layer, (nn.Conv2d, nn.Linear))
        self.layer = layer
        self.groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
        self.features = layer.weight[0].numel()
        self.positions = math.ceil(max(rows, 32 * self.features) / samples)
        self.generator = torch.Generator().manual_seed(seed)
        self.matrix = torch.zeros(self.groups, self.features + 1, self.features + 1, dtype=torch.float64)
        self.input_dims = 0

    def add(self, x: Tensor) -> None:
        self.input_dims = x.ndim
        x = x if x.ndim > (3 if isinstance(self.layer, nn.Conv2d) else 1) else x[None]
        for chunk in self._chunks(x):
            rows = input_rows(self.layer, chunk, self._draw(positions(self.layer, chunk))).float()
            rows = torch.cat([rows, rows.new_ones(*rows.shape[:2], 1)], dim=2)
            self.matrix += rows.mT @ rows

    def _chunks(self, x: Tensor) -> Iterator[Tensor]:
        step = max(1, CHUNK_ENTRIES // (min(self.positions, x[0].numel()) * self.groups * (self.features + 1)))
        return iter(x.split(step))

    def _draw(self, count: int) -> Tensor:
        """Which of `count` positions of a feature map become rows."""
        if count <= self.positions:
            return torch.arange(count)
        return torch.randperm(count, generator=self.generator)[: self.positions]


def positions(layer: nn.Conv2d | nn.Linear, x: Tensor) -> int:
    """How many rows one sample of the input `x`, [n, ...], gives a layer: output pixels, or leading dimensions."""
    if isinstance(layer, nn.Linear):
        return math.prod(x.shape[1:-1])
    height, width = _output_size(layer, x)
    return height * width


def input_rows(layer: nn.Conv2d | nn.Linear, x: Tensor, drawn: Tensor) -> Tensor:
    """The rows that `layer` multiplies at the output positions `drawn` of every sample of `x`, [n, ...].

    Returns [groups, n * drawn, features], sample by sample.
    """
    if isinstance(layer, nn.Linear):
        return x.reshape(len(x), -1, layer.in_features)[:, drawn].reshape(1, -1, layer.in_features)
    (kh, kw), (sh, sw), (dh, dw) = layer.kernel_size, layer.stride, layer.dilation
    width = _output_size(layer, x)[1]
    x = _padded(layer, x)
    top, left = drawn // width * sh, drawn % width * sw
    taps = [x[:, :, top + i * dh, left + j * dw] for i in range(kh) for j in range(kw)]
    patches = torch.stack(taps, dim=-1)  # [n, channels, drawn, kernel]
    n, _, count, kernel = patches.shape
    patches = patches.reshape(n, layer.groups, -1, count, kernel).permute(1, 0, 3, 2, 4)
    return patches.reshape(layer.groups, n * count, -1)


def output_rows(layer: nn.Conv2d | nn.Linear, y: Tensor, drawn: Tensor) -> Tensor:
    """The rows of an output `y` of `layer` at the positions `drawn`: [n * drawn, out], in the order of `input_rows`."""
    if isinstance(layer, nn.Linear):
        return y.reshape(len(y), -1, y.shape[-1])[:, drawn].reshape(-1, y.shape[-1])
    return y.flatten(2)[:, :, drawn].transpose(1, 2).reshape(-1, y.shape[1])


def _output_size(conv: nn.Conv2d, x: Tensor) -> tuple[int, int]:
    if conv.padding == "same":
        return x.shape[2], x.shape[3]
    total = (0, 0) if isinstance(conv.padding, str) else tuple(2 * p for p in conv.padding)
    sizes = [
        (size + added - d * (k - 1) - 1) // s + 1
        for size, added, k, s, d in zip(x.shape[2:], total, conv.kernel_size, conv.stride, conv.dilation, strict=True)
    ]
    return sizes[0], sizes[1]


def _padded(conv: nn.Conv2d, x: Tensor) -> Tensor:
    if isinstance(conv.padding, str):
        top = left = bottom = right = 0
        if conv.padding == "same":  # an odd total puts the larger part after, as PyTorch does
            (top, bottom), (left, right) = (
                (d * (k - 1) // 2, d * (k - 1) - d * (k - 1) // 2)
                for d, k in zip(conv.dilation, conv.kernel_size, strict=True)
            )
    else:
        top, left = bottom, right = conv.padding
    mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    return F.pad(x, (left, right, top, bottom), mode=mode)
