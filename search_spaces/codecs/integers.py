"""Tensors of integers times a scale in a packed file: how they stand there, and what they take before it is written.

A weight of [out, ...] whose every number is an integer times the float32 scale of its output channel stands in the
file as `NAME.integers`: two's complement integers of 3 to 8 bits one after the other, lowest bit first, so that 4-bit
ones lie two to a byte, the first in the low half; of smaller formats (`search_spaces.codecs.number_formats`) the place
of each integer in the format's grid. Where many are zero, `NAME.mask` has a bit for each number and `NAME.integers`
only those that are not zero. The scale, `NAME_scale`, is an ordinary tensor of the state dict; shape and bits or grid
are in the metadata. All of it is exact: integer times scale, rounded once to float32, is the weight.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from search_spaces.codecs.header import HeaderBound, Packed
from search_spaces.codecs.number_formats import FORMATS, NumberFormat
from search_spaces.codecs.reader import INTEGERS, MASK, SCALE


@dataclass(frozen=True)
class IntegersSize:
    """Bytes of the lines in the header of one tensor of integers: a few more than there will be.

    Its shape is yet to be chosen, and at most the one given.
    """

    lines: int
    """Lines of the integers."""
    masked_lines: int
    """Lines of integers and mask."""
    scale_line: int
    """Line of the scale."""


def bound(
    name: str, shape: Sequence[int], header: HeaderBound, formats: Sequence[NumberFormat], *, coded: bool = False
) -> IntegersSize:
    """What the tensor `name` takes as integers of any of `formats`, if it has `shape` or any smaller one.

    `header`: of the file, scales included. A file with integers has a longer note: `frame_bytes(integers=True)`.
    `coded`: in a file of coded streams; what those say of themselves (`entropy.stream_bytes`) is not counted.
    """
    numbers = math.prod(shape)
    in_file = FORMATS.values() if coded else formats  # as few as hold what is there
    told = max(header.told(name, Packed(tuple(shape), form.grid)) for form in in_file)
    lines = header.line(name + INTEGERS, "U8", [numbers]) + told  # at 8 bits a byte each, and no more below
    mask = header.line(name + MASK, "U8", [-(-numbers // 8)])
    return IntegersSize(lines, lines + mask, header.line(name + SCALE, "BF16", shape[:1]))


def integers_of(weight: Tensor, scale: Tensor) -> Tensor | None:
    """The integers from -128 to 127 that times `scale` are `weight` bit for bit: int8, in its shape; None if none are.

    `weight`: float32, [out, ...] of two dimensions or more; `scale`: float32, [out]. A weight of -0.0 is no integer.
    """
    fits = weight.dtype == scale.dtype == torch.float32 and weight.ndim > 1 and scale.shape == weight.shape[:1]
    if not fits or not weight.numel():
        return None
    weight, scale = weight.detach(), scale.detach()
    along = scale.double().view(-1, *[1] * (weight.ndim - 1))
    ratio = (weight.double() / along).nan_to_num(0, 127, -128)  # 0 / 0 in a channel without a scale
    integers = ratio.round().clamp(-128, 127).to(torch.int8)
    same = dequantized(integers, scale).view(torch.int32) == weight.contiguous().view(torch.int32)
    return integers if bool(same.all()) else None


def dequantized(integers: Tensor, scale: Tensor) -> Tensor:
    """The weights that `integers`, [out, ...], stand for: each times its channel's scale, in float32."""
    return integers.float() * scale.view(-1, *[1] * (integers.ndim - 1))


def format_of(integers: Tensor, formats: Iterable[NumberFormat] = FORMATS.values()) -> NumberFormat:
    """The smallest of `formats` that has all of `integers`: int8, of any shape."""
    found = set((np.flatnonzero(np.bincount(_bytes(integers) ^ 128, minlength=256)) - 128).tolist())
    return next(form for form in formats if found <= set(form.grid))


def holds(weight: Tensor, scale: Tensor) -> NumberFormat | None:
    """The smallest format whose integers times `scale` are `weight` bit for bit, or None."""
    integers = integers_of(weight, scale)
    return None if integers is None else format_of(integers)


def symbols_of(integers: Tensor, form: NumberFormat) -> npt.NDArray[np.uint8]:
    """The place of each of `integers` in the grid of `form`, which has them all: [n]."""
    places = np.zeros(256, dtype=np.uint8)
    places[np.array(form.grid, dtype=np.int8).view(np.uint8)] = np.arange(len(form.grid))
    symbols: npt.NDArray[np.uint8] = places[_bytes(integers)]
    return symbols


def _bytes(integers: Tensor) -> npt.NDArray[np.uint8]:
    return integers.contiguous().reshape(-1).numpy().view(np.uint8)
