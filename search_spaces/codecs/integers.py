"""Tensors of integers times a scale in a packed file: how they stand there, and what they take before it is written.

A weight of [out, ...] whose every number is an integer times the float32 scale of its output channel stands in the
file as `NAME.integers`: two's complement integers of 2 to 8 bits one after the other, lowest bit first, so that 4-bit
ones lie two to a byte, the first in the low half. Where many are zero, `NAME.mask` has a bit for each number and
`NAME.integers` only those that are not zero. The scale, `NAME_scale`, is an ordinary tensor of the state dict; shape
and bits are in the metadata. All of it is exact: integer times scale, rounded once to float32, is the weight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from search_spaces.codecs.bitmask import MASK, pack_mask, require_bytes, unpack_mask
from search_spaces.codecs.header import Packed, line_bytes, told_bytes
from search_spaces.codecs.widths import WIDTHS

INTEGERS, SCALE = ".integers", "_scale"

_CHUNK = 2**20
"""Numbers whose bits are spread out at once; a multiple of 8, so that each chunk begins a byte."""

Count = TypeVar("Count", int, npt.NDArray[np.int64])


@dataclass(frozen=True)
class IntegersSize:
    """Bytes of one tensor as integers, its lines in the header included: a few more than there will be.

    Of a tensor whose shape is yet to be chosen, at most the one given; counts may be arrays, of any shape.
    """

    lines: int
    """Lines of the integers."""
    masked_lines: int
    """Lines of integers and mask."""
    scale_line: int
    """Line of the scale."""

    def whole(self, numbers: Count, bits: Count) -> Count:
        """An integer of `bits` bits for each of the numbers, the scale apart."""
        return self.lines + -(-numbers * bits // 8)

    def masked(self, numbers: Count, stored: Count, bits: Count) -> Count:
        """A bit for each of the numbers and an integer for each of those that are not zero, the scale apart."""
        return self.masked_lines + -(-numbers // 8) + -(-stored * bits // 8)

    def scale(self, outputs: Count) -> Count:
        """The scale, a float32 for each output channel: it stands in the file besides either form."""
        return self.scale_line + 4 * outputs


def bound(name: str, shape: Sequence[int], end: int) -> IntegersSize:
    """What the tensor `name` takes as integers, if it has `shape` or any smaller one.

    `end`: the bytes of all tensors of the file as they are, scales included; no offset is higher. A file with
    integers has a longer note: `frame_bytes(integers=True)`.
    """
    numbers = math.prod(shape)
    told = told_bytes(name, Packed(tuple(shape), 8))
    lines = line_bytes(name + INTEGERS, "U8", [numbers], end) + told  # at 8 bits a byte each, and no more below
    mask = line_bytes(name + MASK, "U8", [-(-numbers // 8)], end)
    return IntegersSize(lines, lines + mask, line_bytes(name + SCALE, "F32", shape[:1], end))


def integers_of(weight: Tensor, scale: Tensor) -> Tensor | None:
    """The integers from -128 to 127 that times `scale` are `weight` bit for bit: int8, in its shape; None if none are.

    `weight`: float32, [out, ...] of two dimensions or more; `scale`: float32, [out]. A weight of -0.0 is no integer.
    """
    fits = weight.dtype == scale.dtype == torch.float32 and weight.ndim > 1 and scale.shape == weight.shape[:1]
    if not fits or not weight.numel():
        return None
    weight, scale = weight.detach(), scale.detach().view(-1, *[1] * (weight.ndim - 1))
    ratio = (weight.double() / scale.double()).nan_to_num(0, 127, -128)  # 0 / 0 in a channel without a scale
    integers = ratio.round().clamp(-128, 127).to(torch.int8)
    same = (integers.float() * scale).view(torch.int32) == weight.contiguous().view(torch.int32)
    return integers if bool(same.all()) else None


def holds(weight: Tensor, scale: Tensor, widths: Sequence[int] = WIDTHS) -> int | None:
    """The fewest bits of `widths` whose integers times `scale` are `weight` bit for bit, or None."""
    integers = integers_of(weight, scale)
    if integers is None:
        return None
    needed = max(int(integers.max()), -1 - int(integers.min())).bit_length() + 1
    return min((bits for bits in widths if bits >= needed), default=None)


def encode(weight: Tensor, scale: Tensor, bits: int, *, masked: bool = False) -> dict[str, Tensor]:
    """Suffix -> tensor: the integers of `weight`, and with `masked` only those that are not zero, and the mask.

    A `ValueError` if that would not be exact.
    """
    integers = integers_of(weight, scale)
    if integers is None or holds(weight, scale, (bits,)) is None:
        raise ValueError(f"expected integers of {bits} bits times a scale, got other weights. Round them first")
    flat = integers.reshape(-1)
    if not masked:
        return {INTEGERS: pack_integers(flat, bits)}
    mask = flat != 0
    return {INTEGERS: pack_integers(flat[mask], bits), MASK: pack_mask(mask)}


def decode(integers: Tensor, scale: Tensor, packed: Packed, mask: Tensor | None = None) -> Tensor:
    """The inverse of `encode`, float32; a `ValueError` if the parts do not fill a tensor of this shape."""
    count, bits = math.prod(packed.shape), packed.bits
    require_bytes(integers)
    # Before anything is allocated: the shape may be anybody's, the bytes are there.
    kept = None if mask is None else unpack_mask(mask, count)
    marked, stored = (count, count) if kept is None else (len(kept), int(kept.sum()))
    if bits is None or not 2 <= bits <= 8 or marked != count or len(integers) != -(-stored * bits // 8):
        raise ValueError(
            f"{len(integers)} bytes of {bits}-bit integers for {stored} of {marked} bits "
            f"do not fill a tensor of shape {list(packed.shape)}"
        )
    if len(packed.shape) < 2 or scale.shape != packed.shape[:1]:
        raise ValueError(f"a scale of shape {list(scale.shape)} does not fit a tensor of shape {list(packed.shape)}")
    numbers = unpack_integers(integers, stored, bits)
    if kept is None:
        flat = numbers
    else:
        flat = torch.zeros(count, dtype=torch.int8)
        flat[kept] = numbers
    return flat.view(*packed.shape).float() * scale.view(-1, *[1] * (len(packed.shape) - 1))


def pack_integers(integers: Tensor, bits: int) -> Tensor:
    """The lowest `bits` bits of each integer, one after the other, lowest first, zeros up to the next byte.

    `integers`: int8, [n], each within `bits` bits. Returns uint8, [ceil(n * bits / 8)].
    """
    chunks = np.array_split(integers.numpy().view(np.uint8), range(_CHUNK, len(integers), _CHUNK))
    spread = (np.unpackbits(chunk[:, None], axis=1, count=bits, bitorder="little") for chunk in chunks)
    return torch.from_numpy(np.concatenate([np.packbits(part, bitorder="little") for part in spread]))


def unpack_integers(packed: Tensor, count: int, bits: int) -> Tensor:
    """The inverse of `pack_integers`: int8, [count]."""
    chunks = np.array_split(packed.numpy(), range(_CHUNK * bits // 8, len(packed), _CHUNK * bits // 8))
    counts = [min(_CHUNK, count - start) for start in range(0, max(count, 1), _CHUNK)]
    sign = 1 << (bits - 1)
    parts = []
    for chunk, number in zip(chunks, counts, strict=True):
        spread = np.unpackbits(chunk, count=number * bits, bitorder="little").reshape(number, bits)
        unsigned = np.packbits(spread, axis=1, bitorder="little")[:, 0]
        parts.append(((unsigned ^ sign).astype(np.int16) - sign).astype(np.int8))
    return torch.from_numpy(np.concatenate(parts))
