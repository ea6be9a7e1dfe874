"""Packed files: a safetensors file in which each tensor stands in the smallest form that holds it bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from search_spaces.codecs import bitmask, integers
from search_spaces.codecs.bitmask import MASK, VALUES, PackedSize, packed_sizes, stored
from search_spaces.codecs.header import KEY, Packed, metadata, packed_of
from search_spaces.codecs.integers import INTEGERS, SCALE

Parts = dict[str, Tensor]
"""Suffix -> what stands in the file under the tensor's name and this suffix."""


def pack(tensors: Mapping[str, Tensor]) -> bytes:
    """The content of a packed file of the `tensors` of a state dict, which share no memory.

    Each tensor has the smallest of these forms that hold it exactly, and comes back bit for bit: itself; `NAME.values`
    and `NAME.mask`, its numbers that are not zero and a bit for each number (`search_spaces.codecs.bitmask`); if the
    network has a scale `NAME_scale` for each of its output channels, `NAME.integers`, all of them or with `NAME.mask`
    those that are not zero (`search_spaces.codecs.integers`). Shape and bits are in the metadata.
    """
    sizes = packed_sizes(tensors)
    end = sum(tensor.nbytes for tensor in tensors.values())
    content: dict[str, Tensor] = {}
    packed: dict[str, Packed] = {}
    for name in tensors:
        parts, how = _smallest(name, tensors, sizes[name], end)
        content.update({name + suffix: part for suffix, part in parts.items()})
        if how is not None:
            packed[name] = how
    return save(content, {KEY: metadata(packed)})


def unpack(path: Path) -> dict[str, Tensor]:
    """The tensors in a safetensors file, packed or not.

    Raises what reading raises, and a `ValueError` for a file that does not hold what its metadata say.
    """
    with safe_open(path, framework="pt") as file:
        told = (file.metadata() or {}).get(KEY)
        content = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    packed = packed_of(told) if told is not None else {}
    parts = {name + suffix for name, how in packed.items() for suffix in _suffixes(how)}
    tensors = {name: tensor for name, tensor in content.items() if name not in parts}
    return {**tensors, **{name: _unpacked(name, how, content) for name, how in packed.items()}}


def _smallest(name: str, tensors: Mapping[str, Tensor], size: PackedSize, end: int) -> tuple[Parts, Packed | None]:
    """The smallest form of a tensor, and what the metadata say of it; of equal ones the first.

    A form whose names the network has already given to other tensors is none.
    """
    tensor, shape = tensors[name], tuple(tensors[name].shape)
    count = int(stored(tensor).sum())
    forms: list[tuple[int, Packed | None, Callable[[], Parts]]] = [(size.dense, None, lambda: {"": tensor})]

    def offer(length: int, how: Packed, parts: Callable[[], Parts]) -> None:
        if not {name + suffix for suffix in _suffixes(how)} & tensors.keys():
            forms.append((length, how, parts))

    offer(size.packed(count), Packed(shape), partial(bitmask.encode, tensor))
    scale = tensors.get(name + SCALE)
    bits = integers.holds(tensor, scale) if scale is not None else None
    if scale is not None and bits is not None:
        lengths = integers.bound(name, shape, end)
        code = partial(integers.encode, tensor, scale, bits)
        offer(lengths.whole(tensor.numel(), bits), Packed(shape, bits), code)
        offer(lengths.masked(tensor.numel(), count, bits), Packed(shape, bits), partial(code, masked=True))
    _, how, parts = min(forms, key=lambda form: form[0])
    return parts(), how


def _suffixes(how: Packed) -> tuple[str, str]:
    """What may stand in the file instead of a packed tensor."""
    return (VALUES, MASK) if how.bits is None else (INTEGERS, MASK)


def _unpacked(name: str, how: Packed, content: Mapping[str, Tensor]) -> Tensor:
    if how.bits is None:
        return bitmask.decode(content[name + VALUES], content[name + MASK], how.shape)
    return integers.decode(content[name + INTEGERS], content[name + SCALE], how, content.get(name + MASK))
