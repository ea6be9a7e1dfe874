"""Packed files: a safetensors file in which each tensor stands in the smallest form that holds it bit for bit."""

from __future__ import annotations

import json
import lzma
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load, save
from torch import Tensor

from search_spaces.codecs.bitmask import LONGEST_TYPE, TYPES, stored
from search_spaces.codecs.brief import BYTES, is_short, lengthened, same_of, shortened, told_as_one
from search_spaces.codecs.codebook import indices_of
from search_spaces.codecs.header import KEY, Packed, Same, Told, line_bytes, metadata, same_bytes, told_bytes, told_of
from search_spaces.codecs.integers import format_of, integers_of, symbols_of
from search_spaces.codecs.number_formats import FORMATS, NumberFormat
from search_spaces.codecs.reader import (
    BOOK,
    DATA,
    DATA_LZMA,
    DATA_ZLIB,
    FOLDED,
    FOLDED_LZMA,
    GAPS,
    HEADER,
    HEADER_LZMA,
    INDICES,
    INTEGERS,
    MASK,
    MOST_OF_A_BYTE,
    SCALE,
    VALUES,
    suffixes,
    unfolded,
    unpacked,
)
from search_spaces.codecs.streams import Stream, gaps, mask_symbols, stream

MOST_BY_LZMA = 2**22
"""Bytes of a file that lzma is tried on: it takes a second for some 2 MB, and of a larger file what it saves is little.
"""
SPARSE = 4
"""Gaps are tried where at most every so manyth number is not zero; a mask is shorter before that."""


def pack(tensors: Mapping[str, Tensor]) -> bytes:
    """The content of a packed file of the `tensors` of a state dict, which share no memory.

    Each tensor has the smallest of these forms that hold it exactly, and comes back bit for bit: itself; `NAME.values`
    and `NAME.mask`, its numbers that are not zero and a bit for each number (`search_spaces.codecs.bitmask`); if the
    network has a scale `NAME_scale` for each of its output channels, `NAME.integers`, all of them or with `NAME.mask`
    those that are not zero (`search_spaces.codecs.integers`); if it has a codebook `NAME_codebook`, `NAME.indices`
    likewise (`search_spaces.codecs.codebook`). Shape and bits or grid are in the metadata.

    If the whole file becomes shorter so, although it has more to explain, integers of few bits have a grid of their
    own; and integers and masks are entropy coded, and `NAME.gaps` may stand for the mask
    of a tensor with few numbers that are not zero (`search_spaces.codecs.streams`). Where any tensor has a scale or a
    codebook, those of one number stand in the metadata alone, and those that bfloat16 holds have half their bytes
    (`search_spaces.codecs.brief`). Where that is shorter again, the
    header, which of a small network can be a third of the file, is compressed, and the data are too (`folded`).
    """
    content = pack_open(tensors)
    by_lzma = [folded_by_lzma(content)] if len(content) <= MOST_BY_LZMA else []
    return min(content, folded(content), *by_lzma, key=len)


def pack_open(tensors: Mapping[str, Tensor]) -> bytes:
    """The same without the last: a file in which each part stands under its name."""
    formats = tuple(FORMATS.values())
    plain = tuple(form for form in formats if Packed((), form.grid).bits is not None)
    layouts = ((plain, False), (formats, False), (formats, True))
    return min((laid_out(tensors, allowed, coded=coded) for allowed, coded in layouts), key=len)


def folded(content: bytes) -> bytes:
    """A file that holds another: `header` and `data`, or `data.zlib` where that is shorter, compressed by zlib."""
    (length,) = struct.unpack("<Q", content[:8])
    header, data = content[8 : 8 + length], content[8 + length :]
    smaller = zlib.compress(data, 9)
    parts = {HEADER: zlib.compress(header, 9)}
    parts |= {DATA_ZLIB: smaller} if len(smaller) < len(data) else {DATA: data}
    tensors = {name: torch.frombuffer(bytearray(part), dtype=torch.uint8) for name, part in parts.items() if part}
    return save(tensors, {KEY: FOLDED})


def folded_by_lzma(content: bytes) -> bytes:
    """The same by lzma. It sees that numbers are four bytes each, of which two may be zeros."""
    (length,) = struct.unpack("<Q", content[:8])
    header, data = content[8 : 8 + length], content[8 + length :]
    parts = {HEADER_LZMA: _by_lzma(header), DATA_LZMA: _by_lzma(data, lc=0, lp=2, pb=2)}
    if len(data) > MOST_OF_A_BYTE * len(parts[DATA_LZMA]):
        return content  # a reader would refuse to believe it
    tensors = {name: torch.frombuffer(bytearray(part), dtype=torch.uint8) for name, part in parts.items()}
    return save(tensors, {KEY: FOLDED_LZMA})


def _by_lzma(content: bytes, **places: int) -> bytes:
    """`content` by lzma. `places`: what it takes into account of where a byte stands."""
    size = max(4096, 1 << max(len(content) - 1, 0).bit_length())
    packer = {"id": lzma.FILTER_LZMA1, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": size, **places}
    return lzma.compress(content, format=lzma.FORMAT_ALONE, filters=[packer])


def unpack(path: Path) -> dict[str, Tensor]:
    """The tensors in a safetensors file, packed or not, in the order of their names.

    Raises what reading raises, and a `ValueError` for a file that does not hold what its metadata say.
    """
    with safe_open(path, framework="pt") as file:
        text = (file.metadata() or {}).get(KEY)
        content = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    if text in (FOLDED, FOLDED_LZMA):
        inner = unfolded({name: _row_of_bytes(part).numpy() for name, part in content.items()})
        content, text = load(inner), metadata_of(inner)
    told = told_of(text) if text is not None else Told({})
    if told.short:
        content = {name: lengthened(x) if x.dtype == torch.bfloat16 else x for name, x in content.items()}
    parts = {name + suffix for name, how in told.packed.items() for suffix in suffixes(how, coded=told.coded)}
    content |= {name: told_as_one(same) for name, same in told.same.items()}  # scales may be among them
    tensors = {name: tensor for name, tensor in content.items() if name not in parts}
    tensors |= {name: _unpacked(name, how, content, told.coded) for name, how in told.packed.items()}
    return {name: tensors[name] for name in sorted(tensors)}  # safetensors gives those of bytes in any order


def metadata_of(content: bytes) -> str | None:
    """What the metadata of a safetensors file, which is whole, say of packing, if anything."""
    (length,) = struct.unpack("<Q", content[:8])
    told: dict[str, str] = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    return told.get(KEY)


@dataclass(frozen=True)
class _Form:
    """A form that a tensor may have in the file."""

    length: int
    """Bytes, lines of the header and metadata included."""
    how: Packed | None
    """What the metadata say of its parts; nothing of a tensor that stands there as it is."""
    parts: Callable[[], dict[str, Tensor]]
    """Suffix -> what stands in the file under the tensor's name and this suffix."""
    same: Same | None = None
    """Its shape and its one number, if the metadata say that."""


def laid_out(tensors: Mapping[str, Tensor], formats: Sequence[NumberFormat], *, coded: bool) -> bytes:
    """The content of a file like those of `pack` with integers of these `formats`, which is coded or is not."""
    end = sum(tensor.nbytes for tensor in tensors.values())
    content: dict[str, Tensor] = {}
    packed: dict[str, Packed] = {}
    same: dict[str, Same] = {}
    brief = any(name + table in tensors for name in tensors for table in (SCALE, BOOK))
    short = brief and all(tensor.dtype != torch.bfloat16 for tensor in tensors.values())
    for name in tensors:
        form = _Choice(name, tensors, end, formats, coded, brief, short).smallest
        content.update({name + suffix: part for suffix, part in form.parts().items()})
        if form.how is not None:
            packed[name] = form.how
        if form.same is not None:
            same[name] = form.same
    return save(content, {KEY: metadata(Told(packed, coded, same, short))})


@dataclass(frozen=True)
class _Choice:
    """The forms of one tensor."""

    name: str
    tensors: Mapping[str, Tensor]
    """All of the state dict."""
    end: int
    """Their bytes: no offset of the file is higher."""
    formats: Sequence[NumberFormat]
    """Those that integers may have."""
    coded: bool
    brief: bool
    """Whether the metadata may tell tensors of one number."""
    short: bool
    """Whether bfloat16 may stand for float32."""

    @property
    def smallest(self) -> _Form:
        """The smallest form; of equal ones the first."""
        return min(self._forms(), key=lambda form: form.length)

    @cached_property
    def _tensor(self) -> Tensor:
        return self.tensors[self.name]

    def _forms(self) -> Iterator[_Form]:
        """Those whose names the network has not given to other tensors."""
        tensor = self._tensor
        dtype = TYPES.get(tensor.dtype, LONGEST_TYPE)
        length = line_bytes(self.name, dtype, tensor.shape, self.end) + tensor.nbytes
        yield _Form(length, None, lambda: {"": tensor})
        if self.brief and (same := same_of(self.name, tensor)) is not None:
            yield _Form(same_bytes(self.name, same), None, dict, same)
        if self.short and is_short(tensor):
            length = line_bytes(self.name, "BF16", tensor.shape, self.end) + BYTES * tensor.numel()
            yield _Form(length, None, lambda: {"": shortened(tensor)})
        if tensor.ndim < 2:
            return
        kept = stored(tensor)
        which = self._which(kept.numpy())
        flat = tensor.detach().reshape(-1)
        values = Stream(int(kept.sum()) * tensor.element_size(), lambda: flat[kept])
        shape = tuple(tensor.shape)
        for suffix, places in which.items():
            yield from self._form({VALUES: values, suffix: places}, Packed(shape))
        yield from self._indexed(tensor, kept.numpy(), which)
        scale = self.tensors.get(self.name + SCALE)
        integers = integers_of(tensor, scale) if scale is not None else None
        if integers is None:
            return
        integers = integers.reshape(-1)
        yield from self._form({INTEGERS: (whole := self._integers(integers))[0]}, Packed(shape, whole[1]))
        few = self._integers(integers[kept])
        for suffix, places in which.items():
            yield from self._form({INTEGERS: few[0], suffix: places}, Packed(shape, few[1]))

    def _indexed(self, tensor: Tensor, kept: np.ndarray, which: Mapping[str, Stream]) -> Iterator[_Form]:
        """As places in a codebook, if it has one: of all numbers, or of those `kept`, bool, [n]."""
        book = self.tensors.get(self.name + BOOK)
        indices = indices_of(tensor, book) if book is not None else None
        if book is None or indices is None:
            return
        how = Packed(tuple(tensor.shape), None, len(book))
        yield from self._form({INDICES: stream(indices, len(book), coded=self.coded)}, how)
        few = stream(indices[kept], len(book), coded=self.coded)
        for suffix, places in which.items():
            yield from self._form({INDICES: few, suffix: places}, how)

    def _form(self, parts: Mapping[str, Stream], how: Packed) -> Iterator[_Form]:
        if {self.name + suffix for suffix in suffixes(how, coded=self.coded)} & self.tensors.keys():
            return
        length = told_bytes(self.name, how)
        for suffix, part in parts.items():
            dtype = TYPES.get(self._tensor.dtype, LONGEST_TYPE) if suffix == VALUES else "U8"
            count = part.length // (self._tensor.element_size() if suffix == VALUES else 1)
            length += line_bytes(self.name + suffix, dtype, [count], self.end) + part.length
        yield _Form(length, how, lambda: {suffix: part.write() for suffix, part in parts.items()})

    def _which(self, kept: np.ndarray) -> dict[str, Stream]:
        """Suffix -> what can tell which numbers are stored. `kept`: bool, [n]."""
        if not self.coded:
            return {MASK: stream(kept.astype(np.uint8), 2, coded=False)}
        which = {MASK: stream(mask_symbols(kept), 16, coded=True)}
        places = np.flatnonzero(kept)
        if SPARSE * len(places) <= len(kept) and (found := gaps(places, len(kept))) is not None:
            which[GAPS] = found
        return which

    def _integers(self, integers: Tensor) -> tuple[Stream, tuple[int, ...]]:
        form = format_of(integers, self.formats)
        return stream(symbols_of(integers, form), len(form.grid), coded=self.coded), form.grid


def _unpacked(name: str, how: Packed, content: Mapping[str, Tensor], coded: bool) -> Tensor:
    there = [suffix for suffix in suffixes(how, coded=coded) if name + suffix in content and suffix != VALUES]
    arrays = {suffix: _row_of_bytes(content[name + suffix]).numpy() for suffix in there}
    if how.grid is not None or how.centroids:
        table = content[name + how.table]
        if table.dtype != torch.float32:
            raise ValueError(f"expected a tensor {name + how.table} in float32, got {table.dtype}")
        return torch.from_numpy(unpacked(how, arrays, table.numpy(), coded=coded))
    values = content[name + VALUES]
    if values.ndim != 1:
        raise ValueError(f"expected a row of values, got a tensor of shape {list(values.shape)}")
    # As bytes, since NumPy does not know every type of number.
    size = values.element_size()
    arrays[VALUES] = values.view(torch.uint8).numpy().view(f"V{size}")
    found = unpacked(how, arrays, None, coded=coded)
    return torch.from_numpy(found.reshape(-1).view(np.uint8)).view(values.dtype).view(how.shape)


def _row_of_bytes(part: Tensor) -> Tensor:
    """`part`, if it is a row of bytes: NumPy does not know every other type of number."""
    if part.dtype != torch.uint8 or part.ndim != 1:
        raise ValueError(f"expected a row of bytes, got {part.dtype} of shape {list(part.shape)}")
    return part
