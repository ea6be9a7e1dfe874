"""What blocks cost before they are built: multiply-accumulates, parameters, bytes of the file.

Bytes are those of a safetensors file of the network's tensors. The header's lines are counted with offsets of ten
digits, so that each block has its own share: a few bytes a tensor above what is written, and never below.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import prod

from search_spaces.cells.block_layers import Block, Conv, Excite, Layer, Size
from search_spaces.codecs.header import line_bytes

METRICS = ("macs", "params", "size_bytes")

Price = tuple[float, float, float]
"""In the order of `METRICS`."""

END = 10**9
"""The highest offset in a file that lines are counted with."""

FRAME = 8 + 2 + 7
"""Bytes of a file that belong to no tensor: the header's length, its braces, its padding at most."""

Tensor = tuple[str, str, tuple[int, ...]]
"""Name, type as safetensors calls it, shape."""


def total(*prices: Price) -> Price:
    """The sum, metric by metric."""
    macs, params, size = (sum(column) for column in zip(*prices, strict=True))
    return macs, params, size


@lru_cache(maxsize=100_000)
def block_price(block: Block, size: Size, norm: bool, prefix: str) -> tuple[Price, Size]:
    """What a block costs that reads a map of `size`, and the size of what it makes; `prefix` of its tensors' names."""
    rows, after = [], size
    for name, layer in parts(block.body, "body"):
        rows.append(_layer(layer, after, norm, f"{prefix}{name}"))
        after = layer.after(after)
    before = after
    for name, branch in parts(block.branches, "branches"):
        rows.append(_layer(branch, before, norm, f"{prefix}{name}"))
        after = branch.after(before)
    reached = size
    for name, layer in parts(block.shortcut, "shortcut"):
        rows.append(_layer(layer, reached, norm, f"{prefix}{name}"))
        reached = layer.after(reached)
    return total((0.0, 0.0, 0.0), *rows), after


def parts(layers: tuple[Layer, ...], name: str) -> Iterator[tuple[str, Layer]]:
    """The layers with the names of their modules."""
    return ((f"{name}.{i}.", layer) for i, layer in enumerate(layers))


def tensors_price(macs: int, tensors: Sequence[Tensor]) -> Price:
    """What a layer of these tensors costs that takes `macs`."""
    numbers = sum(prod(shape) for name, dtype, shape in tensors if not name.endswith(_BUFFERS))
    data = sum(prod(shape) * (8 if dtype == "I64" else 4) for _, dtype, shape in tensors)
    return float(macs), float(numbers), float(data + sum(line_bytes(*tensor, END) for tensor in tensors))


def _layer(layer: Layer, size: Size, norm: bool, prefix: str) -> Price:
    if isinstance(layer, Conv):
        weights = layer.made * (layer.read // layer.groups) * layer.kernel ** len(size)
        return tensors_price(weights * prod(layer.after(size)), conv_tensors(layer, len(size), norm, prefix))
    if isinstance(layer, Excite):
        pairs = (("down", layer.squeezed, layer.channels), ("up", layer.channels, layer.squeezed))
        tensors: list[Tensor] = []
        for name, made, read in pairs:
            shape = (made, read, *(1 for _ in size))
            tensors += [(f"{prefix}{name}.weight", "F32", shape), (f"{prefix}{name}.bias", "F32", (made,))]
        return tensors_price(2 * layer.channels * layer.squeezed, tensors)
    return 0.0, 0.0, 0.0


def conv_tensors(conv: Conv, dims: int, norm: bool, prefix: str) -> list[Tensor]:
    """The tensors of a convolution over so many dimensions with its norm, or with its bias."""
    weight = (f"{prefix}conv.weight", "F32", (conv.made, conv.read // conv.groups, *(conv.kernel for _ in range(dims))))
    if not norm:
        return [weight, (f"{prefix}conv.bias", "F32", (conv.made,))]
    own = [(f"{prefix}norm.{name}", "F32", (conv.made,)) for name in ("weight", "bias", "running_mean", "running_var")]
    return [weight, *own, (f"{prefix}norm.num_batches_tracked", "I64", ())]


def scale_tensors(prefix: str, shape: tuple[int, ...]) -> list[Tensor]:
    """The tensors of a layer that standardises, or puts back what was standardised: they are measured, not learnt."""
    return [(f"{prefix}{name}", "F32", shape) for name in SCALES]


SCALES = ("offset", "spread")
"""The mean and the standard deviation, as buffers of a network are called."""

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked", *SCALES)
