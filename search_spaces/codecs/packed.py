"""Packed files: a safetensors file in which each tensor stands in the cheapest form that holds it exactly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from search_spaces.codecs.bitmask import KEY, metadata, packed_sizes, shapes_of, stored

VALUES, MASK = ".values", ".mask"


def pack(tensors: Mapping[str, Tensor]) -> bytes:
    """The content of a packed file of `tensors`, which share no memory.

    Each tensor has the smaller of two forms: itself, or `NAME.values`, its numbers that are not zero in their own type
    and order, and `NAME.mask`, a bit for each number (uint8, [ceil(n / 8)], lowest bit first), with its shape in the
    metadata. What is packed comes back bit for bit.
    """
    sizes = packed_sizes(tensors)
    content: dict[str, Tensor] = {}
    shapes: dict[str, torch.Size] = {}
    for name, tensor in tensors.items():
        mask = stored(tensor)
        taken = {name + VALUES, name + MASK} & tensors.keys()
        if taken or not sizes[name].worth_packing(int(mask.sum())):
            content[name] = tensor
            continue
        content[name + VALUES] = tensor.reshape(-1)[mask]
        content[name + MASK] = torch.from_numpy(np.packbits(mask.numpy(), bitorder="little"))
        shapes[name] = tensor.shape
    return save(content, {KEY: metadata(shapes)})


def unpack(path: Path) -> dict[str, Tensor]:
    """The tensors in a safetensors file, packed or not. Raises what reading raises, `ValueError` for a file that does
    not hold what its metadata say."""
    with safe_open(path, framework="pt") as file:
        told = (file.metadata() or {}).get(KEY)
        content = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    packed = shapes_of(told) if told is not None else {}
    tensors = {name: tensor for name, tensor in content.items() if not _belongs(name, packed)}
    whole = {name: _unpacked(content[name + VALUES], content[name + MASK], shape) for name, shape in packed.items()}
    return {**tensors, **whole}


def _belongs(name: str, packed: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether a tensor of the file is the values or the mask of a packed one."""
    return name.removesuffix(VALUES) in packed or name.removesuffix(MASK) in packed


def _unpacked(values: Tensor, bits: Tensor, shape: tuple[int, ...]) -> Tensor:
    count = math.prod(shape)
    mask = torch.from_numpy(np.unpackbits(bits.numpy(), bitorder="little")[:count].astype(bool))
    if len(mask) != count or int(mask.sum()) != len(values):
        raise ValueError(f"{len(values)} values and {len(mask)} bits do not fill a tensor of shape {list(shape)}")
    flat = torch.zeros(count, dtype=values.dtype)
    # Byte by byte, since not every type of number can be indexed by a mask.
    size = values.element_size()
    flat.view(torch.uint8).view(count, size)[mask] = values.view(torch.uint8).view(len(values), size)
    return flat.view(shape)
