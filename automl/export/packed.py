"""Packed files: a safetensors file in which a tensor with many zeros stands as its non-zeros and a bit mask."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from automl.errors import ExportError
from automl.measures import state_tensors
from search_spaces.codecs.bitmask import KEY, metadata, packed_sizes, shapes_of, stored

VALUES, MASK = ".values", ".mask"


def pack(network: nn.Module) -> bytes:
    """The state dict of `network` as the content of a packed file; shared tensors stand in it once.

    Each tensor has the smaller of two forms: itself, or `NAME.values`, its numbers that are not zero in their own type
    and order, and `NAME.mask`, a bit for each number (uint8, [ceil(n / 8)], lowest bit first), with its shape in the
    metadata. What is packed comes back bit for bit.
    """
    tensors = state_tensors(network)[0]
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


def packed_bytes(network: nn.Module) -> int:
    """The length of the packed file of `network`."""
    return len(pack(network))


def unpack(path: Path) -> dict[str, Tensor]:
    """The state dict in a safetensors file, packed or not; an `ExportError` for a file that cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            told = (file.metadata() or {}).get(KEY)
            content = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        packed = shapes_of(told) if told is not None else {}
        tensors = {name: tensor for name, tensor in content.items() if not _belongs(name, packed)}
        whole = {name: _unpacked(content[name + VALUES], content[name + MASK], shape) for name, shape in packed.items()}
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ExportError(f"cannot read the weights in {path}: {error}. Export again") from error
    return {**tensors, **whole}


def sparsity(network: nn.Module, names: Mapping[str, int]) -> dict[str, dict[str, float]]:
    """For each tensor of `names`: its weights, how many of them are zero, and the fraction that is."""
    out = {}
    for name in names:
        weight = network.get_parameter(name)
        zeros = weight.numel() - int(stored(weight).sum())
        out[name] = {"weights": weight.numel(), "zeros": zeros, "sparsity": zeros / weight.numel()}
    return out


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
