"""Tensors with many zeros in a packed file, and what a tensor takes there before the file is written.

A packed file is a safetensors file in which a tensor with many zeros stands as its non-zeros, `NAME.values`, and a bit
for each of its numbers, `NAME.mask`, with its shape in the metadata. A tensor with few zeros stands there as it is, and
so does every vector: biases and statistics are small, and evaluation changes which of them are zero. Whoever writes
the file and whoever predicts its length choose between the two forms by these sums. (A third form is in `integers`; in
a coded file the mask is a stream of `streams`, or gaps stand for it.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from search_spaces.codecs.header import HeaderBound, Packed
from search_spaces.codecs.reader import MASK, VALUES

TYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64", torch.int64: "I64"}
"""The names of types in a file, of those that are usual."""
LONGEST_TYPE = "F8_E4M3FNUZ"


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


def packed_sizes(tensors: Mapping[str, Tensor], header: HeaderBound) -> dict[str, PackedSize]:
    """Name -> what each tensor of a file takes in either form. Zeros play no part."""
    return {name: _packed_size(name, tensor, header) for name, tensor in tensors.items()}


def stored(tensor: Tensor) -> Tensor:
    """Which numbers of `tensor` a packed file has to store: all whose bits are not all 0. bool, flattened: [n]."""
    # Not `tensor != 0`: -0.0 equals 0, and must come back as it was.
    flat = tensor.detach().contiguous().reshape(-1)
    return flat.view(torch.uint8).view(len(flat), tensor.element_size()).ne(0).any(1)


def _packed_size(name: str, tensor: Tensor, header: HeaderBound) -> PackedSize:
    number, dtype, shape = tensor.numel(), TYPES.get(tensor.dtype, LONGEST_TYPE), tuple(tensor.shape)
    dense = header.line(name, dtype, shape) + number * tensor.element_size()
    if tensor.ndim < 2:
        return PackedSize(dense, dense, tensor.element_size())
    mask = -(-number // 8)
    lines = header.line(name + VALUES, dtype, [number]) + header.line(name + MASK, "U8", [mask])
    return PackedSize(dense, lines + header.told(name, Packed(shape)) + mask, tensor.element_size())
