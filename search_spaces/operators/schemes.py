"""The schemes by which a layer becomes several in a row, and what each of those reads, makes and takes.

`svd`: the weight as a matrix [made, read * taps]. V is a layer of the same geometry with `rank` outputs, U a linear
layer or 1x1 convolution (Denton et al. 2014, "Exploiting linear structure within convolutional networks"; Zhang et al.
2015, section 2.1).

`separable`: a kernel of kh x kw as [made * kw, read * kh]. V is a convolution of kh x 1, U one of 1 x kw (Jaderberg et
al. 2014, "Speeding up convolutional neural networks with low rank expansions", scheme 2).

`tucker`: a 1x1 convolution to fewer channels, one of the layer's geometry among few, and a 1x1 to those that the layer
makes, with two ranks (Kim et al. 2016, "Compression of deep convolutional neural networks for fast and low power mobile
applications", section 3.1: Tucker-2).

`cp`: a sum of `rank` products of four vectors: a 1x1 convolution, kh x 1 and 1 x kw within each channel, and a 1x1
(Lebedev et al. 2015, "Speeding-up convolutional neural networks using fine-tuned CP-decomposition", with the kernel's
two dimensions apart).

Each pads and strides along a dimension of its own, so that in a row they compute what the layer would with the kernel
that they stand for, with any padding.
"""

from __future__ import annotations

import math

from torch import nn

from search_spaces.graph.tensors import Layer, WeightTensor
from search_spaces.pricing.parts import FIRST, MADE, ONE, READ, SECOND, Row

SCHEMES = ("svd", "separable", "tucker", "cp")


def fits(layer: nn.Module, scheme: str) -> bool:
    """Whether a scheme suits a layer: all but `svd` ask for a kernel, of several rows and columns but for `tucker`."""
    if scheme == "svd":
        return True
    if not isinstance(layer, nn.Conv2d) or layer.groups > 1:
        return False
    return math.prod(layer.kernel_size) > 1 if scheme == "tucker" else min(layer.kernel_size) > 1


def row_of(layer: Layer, tensor: WeightTensor, scheme: str, *, fixed: bool) -> Row | None:
    """The parts of a layer by a scheme; None where it does not suit, or the sizes of maps between them are not known.

    `fixed`: whether the sizes of its maps follow from no width.
    """
    taps = float(math.prod(layer.weight.shape[2:]))
    if scheme == "svd":
        return Row((READ, FIRST), (FIRST, MADE), (taps, 1.0), (1.0, 1.0))
    if not isinstance(layer, nn.Conv2d) or not fits(layer, scheme):
        return None
    high = _spread(layer, 0, tensor.height, tensor.height_made if fixed else 0)
    wide = _spread(layer, 1, tensor.width, tensor.width_made if fixed else 0)
    if wide is None:
        return None
    height, width = map(float, layer.kernel_size)
    if scheme == "separable":
        return Row((READ, FIRST), (FIRST, MADE), (height, width), (wide, 1.0))
    if high is None:
        return None
    if scheme == "tucker":
        return Row((READ, FIRST, SECOND), (FIRST, SECOND, MADE), (1.0, taps, 1.0), (high * wide, 1.0, 1.0))
    reads, makes = (READ, ONE, ONE, FIRST), (FIRST, FIRST, FIRST, MADE)
    return Row(reads, makes, (1.0, height, width, 1.0), (high * wide, wide, 1.0, 1.0))


def most(layer: Layer, scheme: str) -> tuple[int, ...]:
    """The largest ranks that a layer can have: one, or of `tucker` that of what it reads and of what it makes."""
    made, read, *kernel = layer.weight.shape
    if scheme == "svd":
        return (min(made, read * math.prod(kernel)),)
    if scheme == "tucker":
        return read, made
    height, width = kernel
    if scheme == "separable":
        return (min(made * width, read * height),)
    return (layer.weight.numel() // max(made, read, height, width),)


def _spread(layer: nn.Conv2d, dim: int, read: int, made: int) -> float | None:
    """At how many places along a dimension a kernel of one place is for one of the layer; None if that is not known."""
    around = layer.padding if isinstance(layer.padding, str) else 2 * layer.padding[dim]
    if layer.stride[dim] == 1 and around in ("same", layer.dilation[dim] * (layer.kernel_size[dim] - 1)):
        return 1.0  # as many before as after
    return read / made if made else None
