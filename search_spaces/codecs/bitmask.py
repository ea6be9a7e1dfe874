"""Tensors with many zeros in a packed file, and what a tensor takes there before the file is written.

A packed file is a safetensors file in which a tensor with many zeros stands as its non-zeros, `NAME.values`, and a bit
for each of its numbers, `NAME.mask`, with its shape in the metadata. A tensor with few zeros stands there as it is, and
so does every vector: biases and statistics are small, and evaluation changes which of them are zero. Whoever writes
the file and whoever predicts its length choose between the two forms by these sums. (A third form is in `integers`.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from search_spaces.codecs.header import Packed, frame_bytes, line_bytes, told_bytes

__all__ = ["MASK", "VALUES", "PackedSize", "decode", "encode", "frame_bytes", "pack_mask", "packed_sizes", "stored"]

VALUES, MASK = ".values", ".mask"

_TYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64", torch.int64: "I64"}
_LONGEST = "F8_E4M3FNUZ"


@dataclass(frozen=True)
class PackedSize:
    """Bytes of one tensor in a packed file, its lines in the header included: a few more than there will be."""

    dense: int
    """Stored as it is."""
    packed_empty: int
    """Stored as values and mask, without any value; as `dense` where that form is not used."""
    itemsize: int
    """What each value adds to that."""

    def least(self, stored: int) -> int:
        """The smaller form's bytes, with `stored` numbers that are not zero."""
        return min(self.dense, self.packed(stored))

    def packed(self, stored: int) -> int:
        """The bytes of values and mask, with `stored` numbers that are not zero."""
        return self.packed_empty + stored * self.itemsize


def packed_sizes(tensors: Mapping[str, Tensor]) -> dict[str, PackedSize]:
    """Name -> what each tensor of a file takes in either form. Zeros play no part."""
    end = sum(tensor.nbytes for tensor in tensors.values())  # no offset of the file is higher
    return {name: _packed_size(name, tensor, end) for name, tensor in tensors.items()}


def stored(tensor: Tensor) -> Tensor:
    """Which numbers of `tensor` a packed file has to store: all whose bits are not all 0. bool, flattened: [n]."""
    # Not `tensor != 0`: -0.0 equals 0, and must come back as it was.
    flat = tensor.detach().contiguous().reshape(-1)
    return flat.view(torch.uint8).view(len(flat), tensor.element_size()).ne(0).any(1)


def encode(tensor: Tensor) -> dict[str, Tensor]:
    """Suffix -> tensor: the values of `tensor` that are stored, in their own type and order, and the mask."""
    mask = stored(tensor)
    return {VALUES: tensor.detach().reshape(-1)[mask], MASK: pack_mask(mask)}


def decode(values: Tensor, mask: Tensor, shape: Sequence[int]) -> Tensor:
    """The inverse of `encode`; a `ValueError` if the parts do not fill a tensor of this shape."""
    count = math.prod(shape)
    if values.ndim != 1:
        raise ValueError(f"expected a row of values, got a tensor of shape {list(values.shape)}")
    bits = unpack_mask(mask, count)
    if len(bits) != count or int(bits.sum()) != len(values):
        raise ValueError(f"{len(values)} values and {len(bits)} bits do not fill a tensor of shape {list(shape)}")
    flat = torch.zeros(count, dtype=values.dtype)
    # Byte by byte, since not every type of number can be indexed by a mask.
    size = values.element_size()
    flat.view(torch.uint8).view(count, size)[bits] = values.view(torch.uint8).view(len(values), size)
    return flat.view(*shape)


def pack_mask(mask: Tensor) -> Tensor:
    """A bool for each number, [n], as bits, lowest first: uint8, [ceil(n / 8)]."""
    return torch.from_numpy(np.packbits(mask.numpy(), bitorder="little"))


def unpack_mask(bits: Tensor, count: int) -> Tensor:
    """The first `count` bits, or as many as there are: bool. A `ValueError` unless they are a row of bytes."""
    require_bytes(bits)
    return torch.from_numpy(np.unpackbits(bits.numpy(), bitorder="little")[:count].astype(bool))


def require_bytes(tensor: Tensor) -> None:
    """Raise `ValueError` unless `tensor` is a row of bytes."""
    if tensor.dtype != torch.uint8 or tensor.ndim != 1:
        raise ValueError(f"expected a row of bytes, got {tensor.dtype} of shape {list(tensor.shape)}")


def _packed_size(name: str, tensor: Tensor, end: int) -> PackedSize:
    number, dtype, shape = tensor.numel(), _TYPES.get(tensor.dtype, _LONGEST), tuple(tensor.shape)
    dense = line_bytes(name, dtype, shape, end) + number * tensor.element_size()
    if tensor.ndim < 2:
        return PackedSize(dense, dense, tensor.element_size())
    mask = -(-number // 8)
    lines = line_bytes(name + VALUES, dtype, [number], end) + line_bytes(name + MASK, "U8", [mask], end)
    return PackedSize(dense, lines + told_bytes(name, Packed(shape)) + mask, tensor.element_size())
