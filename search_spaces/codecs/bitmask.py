"""What a tensor takes in a packed file, before the file is written.

A packed file is a safetensors file in which a tensor with many zeros stands as its non-zeros, `NAME.values`, and a bit
for each of its numbers, `NAME.mask`, with its shape in the metadata. A tensor with few zeros stands there as it is, and
so does every vector: biases and statistics are small, and evaluation changes which of them are zero. Whoever writes
the file and whoever predicts its length choose between the two forms by these sums.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

NOTE = "NAME.values: the non-zeros of NAME in order; NAME.mask: a bit for each number, lowest first; its shape is here"
"""In the metadata of a packed file, for a reader without this program."""
KEY = "packing"
"""The one key of the metadata: safetensors writes several in any order, and a file's checksum should repeat."""

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
        return min(self.dense, self.packed_empty + stored * self.itemsize)

    def worth_packing(self, stored: int) -> bool:
        """Whether values and mask are the smaller form."""
        return self.packed_empty + stored * self.itemsize < self.dense


def packed_sizes(tensors: Mapping[str, Tensor]) -> dict[str, PackedSize]:
    """Name -> what each tensor of a file takes in either form. Zeros play no part."""
    end = sum(tensor.nbytes for tensor in tensors.values())  # no offset of the file is higher
    return {name: _packed_size(name, tensor, end) for name, tensor in tensors.items()}


def frame_bytes() -> int:
    """Bytes of a packed file that belong to no tensor: the length of the header, its padding, the note."""
    return 8 + 7 + len(json.dumps({"__metadata__": {KEY: metadata({})}}, separators=(",", ":")))


def metadata(shapes: Mapping[str, Sequence[int]]) -> str:
    """What the metadata of a packed file say: the note, and the shape of each tensor that is packed."""
    shown = {name: list(shape) for name, shape in shapes.items()}
    return json.dumps({"note": NOTE, "shapes": shown}, separators=(",", ":"))


def shapes_of(text: str) -> dict[str, tuple[int, ...]]:
    """The inverse of `metadata`; a `ValueError` if that is not what it is."""
    try:
        return {name: tuple(map(int, shape)) for name, shape in json.loads(text)["shapes"].items()}
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"its metadata are not those of a packed file ({error})") from error


def stored(tensor: Tensor) -> Tensor:
    """Which numbers of `tensor` a packed file has to store: all whose bits are not all 0. bool, flattened: [n]."""
    # Not `tensor != 0`: -0.0 equals 0, and must come back as it was.
    flat = tensor.detach().contiguous().reshape(-1)
    return flat.view(torch.uint8).view(len(flat), tensor.element_size()).ne(0).any(1)


def _packed_size(name: str, tensor: Tensor, end: int) -> PackedSize:
    number, dtype = tensor.numel(), _TYPES.get(tensor.dtype, _LONGEST)
    dense = _line(name, dtype, list(tensor.shape), end) + number * tensor.element_size()
    if tensor.ndim < 2:
        return PackedSize(dense, dense, tensor.element_size())
    mask = -(-number // 8)
    lines = _line(f"{name}.values", dtype, [number], end) + _line(f"{name}.mask", "U8", [mask], end)
    shape = json.dumps({name: list(tensor.shape)}, separators=(",", ":"))
    lines += len(json.dumps(shape)) - 3  # a comma for two quotes and two braces
    return PackedSize(dense, lines + mask, tensor.element_size())


def _line(name: str, dtype: str, shape: list[int], end: int) -> int:
    """The characters of a tensor's entry in the header, its comma included."""
    entry = {name: {"dtype": dtype, "shape": shape, "data_offsets": [end, end]}}
    return len(json.dumps(entry, separators=(",", ":"))) - 1
