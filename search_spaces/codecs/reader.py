"""Reads a packed file with NumPy alone: `read(path)` gives every tensor of the network by its name.

This file imports nothing of the program that wrote the weights, so that it can be copied beside them. A packed file
is a safetensors file in which tensors stand in parts, `NAME.integers`, `NAME.indices` or `NAME.values` and `NAME.mask`
or `NAME.gaps`, of fixed length or as coded streams; its metadata say which, and have those of one number themselves.
What is no such file is a `ValueError`, before anything is allocated that is out of proportion to the bytes there.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Parts = Mapping[str, npt.NDArray[Any]]
"""Suffix -> what stands in the file under the tensor's name and this suffix."""

VALUES, INTEGERS, INDICES, MASK, GAPS = (".values", ".integers", ".indices", ".mask", ".gaps")
SCALE, BOOK = "_scale", "_codebook"
HEADER, DATA, DATA_ZLIB = "header", "data", "data.zlib"
"""The tensors of a file that holds another: its header, compressed, and its data as they are or compressed."""
FOLDED = "header: that of a safetensors file by zlib; data or data.zlib: what follows it; read_packed.py reads both"
"""What the metadata of such a file say."""
HEADER_LZMA, DATA_LZMA = "header.lzma", "data.lzma"
FOLDED_LZMA = "a safetensors file by lzma: its header, and what follows it; read_packed.py reads both"
"""The same of one by lzma, which is shorter, and slow where there is much to compress."""
MOST_OF_A_BYTE = 1100
"""Bytes that one of compressed data may stand for: deflate makes at most 1032 of one."""
MOST_OF_A_HEADER = 2**26
"""Bytes of a header that was compressed: more are refused."""
FIXED, HUFFMAN, RANS = 0, 1, 2
"""What the first byte of a coded stream says of its body."""
LANE, LONGEST, PRECISION = 1024, 15, 12
"""Symbols of a stream that are decoded one after the other, many lanes of them at once; bits of the longest Huffman
code; and the power of 2 that the frequencies of rANS add up to."""
LOWEST_STATE = 1 << 16
"""At which a lane of rANS begins, and below which it takes in 16 more bits."""
MOST_NUMBERS = 1024
"""Numbers of a tensor for a byte of its gaps, or of the metadata: more are refused."""
STREAM = "<BBI"
"""How a coded stream begins, before its body: its kind, the size of its alphabet less 1, the number of its symbols."""
CHUNK = 2**20
"""Symbols whose bits are spread out at once; a multiple of 8, so that each chunk begins a byte."""
_TYPES = {"F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1", "U8": "u1"}
_TYPES |= {"U64": "u8", "U32": "u4", "U16": "u2", "BOOL": "?", "BF16": "u2"}


class How(NamedTuple):
    """How a packed tensor stands in the file."""

    shape: tuple[int, ...]
    grid: tuple[int, ...] | None = None
    """The integer that each symbol stands for; None for values that are stored as they are, or are in a codebook."""
    centroids: int = 0
    """The size of its codebook, if it has one."""

    @property
    def table(self) -> str:
        """The suffix of the tensor that its symbols need besides."""
        return BOOK if self.centroids else SCALE


class Description(NamedTuple):
    """What the metadata say of a packed file."""

    forms: dict[str, How]
    coded: bool
    same: dict[str, npt.NDArray[Any]]
    """The tensors whose numbers are all one, which stand nowhere else."""
    short: bool
    """Whether what stands there in bfloat16 is float32."""


def read(path: str | Path) -> dict[str, npt.NDArray[Any]]:
    """The tensors of a file of weights, packed or not, by name; bfloat16 comes as float32, which holds it."""
    content, told = _content(Path(path).read_bytes())
    if told in (FOLDED, FOLDED_LZMA):
        content, told = _content(unfolded(content))
    if told is None:
        return content
    forms, coded, same, _ = described(told)
    parts = {name + suffix for name, how in forms.items() for suffix in suffixes(how, coded=coded)}
    content |= same  # scales may be among them
    out = {name: array for name, array in content.items() if name not in parts}
    for name, how in forms.items():
        found = {s: content[name + s] for s in suffixes(how, coded=coded) if name + s in content}
        out[name] = unpacked(how, found, content.get(name + how.table), coded=coded)
    return out


def unfolded(parts: Parts) -> bytes:
    """The file that the two parts of another stand for, as it was before its header was compressed."""
    short, long, kind = (HEADER_LZMA, DATA_LZMA, "lzma") if HEADER_LZMA in parts else (HEADER, DATA_ZLIB, "zlib")
    header, data = _inflated(_part(parts, short), MOST_OF_A_HEADER, kind), b""
    if long in parts or kind == "lzma":
        data = _inflated(_part(parts, long), MOST_OF_A_BYTE * len(parts[long]) + 1, kind)
    elif DATA in parts:
        data = parts[DATA].tobytes()
    return struct.pack("<Q", len(header)) + header + data


def _inflated(part: npt.NDArray[Any], most: int, kind: str) -> bytes:
    """What zlib or lzma made `part` of, if that is whole and has at most so many bytes."""
    packer: Any = zlib.decompressobj()
    failure: type[Exception] = zlib.error
    if kind == "lzma":
        import lzma  # which some builds of Python lack, and most files do without

        packer, failure = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=2 * MOST_OF_A_HEADER), lzma.LZMAError
    try:
        content: bytes = packer.decompress(part.tobytes(), most)
    except failure as error:
        raise ValueError(f"expected bytes compressed by {kind}, got others ({error}). Export again") from error
    if not packer.eof:
        raise ValueError(f"expected a whole stream of {kind}, of at most {most:,} bytes, got another. Export again")
    return content


def suffixes(how: How, *, coded: bool) -> tuple[str, ...]:
    """What may stand in the file instead of a packed tensor; other names of this kind are those of other tensors."""
    numbers = INDICES if how.centroids else VALUES if how.grid is None else INTEGERS
    return (numbers, MASK, *([GAPS] if coded else []))


def described(text: str) -> Description:
    """What the metadata say."""
    try:
        told = json.loads(text)
        shapes = {name: tuple(_whole(size) for size in shape) for name, shape in told["shapes"].items()}
        grids = {name: _twos_complement(bits) for name, bits in told.get("bits", {}).items()}
        grids |= {name: _grid(numbers) for name, numbers in told.get("grids", {}).items()}
        books = {name: 1 << _bits_of(bits, 1) for name, bits in told.get("books", {}).items()}
        truths = [told.get(key, False) for key in ("coded", "short")]
        coded, short = (_told(truth, isinstance(truth, bool), "true or false") for truth in truths)
        same = _all_one(told.get("same", {}), MOST_NUMBERS * len(text))
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"its metadata are not those of a packed file ({error})") from error
    forms = {name: How(shape, grids.get(name), books.get(name, 0)) for name, shape in shapes.items()}
    return Description(forms, coded, same, short)


def _all_one(told: Mapping[str, Any], most: int) -> dict[str, npt.NDArray[Any]]:
    """Tensors of the shapes that are told, all of whose numbers are one: int64 if it has no point, else float32."""
    same = {}
    for name, (sizes, number) in told.items():
        shape, whole = tuple(_whole(size) for size in sizes), type(number) is int
        most -= math.prod(shape)
        right = type(number) in (int, float) and abs(number) <= (2**63 - 1 if whole else 3.4028234e38)
        _told(number, right and most >= 0, "a number for a shape")
        same[name] = np.full(shape, number, dtype=np.int64 if whole else np.float32)
    return same


def unpacked(how: How, parts: Parts, table: npt.NDArray[Any] | None, *, coded: bool) -> npt.NDArray[Any]:
    """The tensor that its parts make.

    `parts`: `.integers`, `.indices`, or `.values` of any type, and what says which numbers those are: `.mask`, `.gaps`
    or nothing for all. `table`: float32, for integers the scale, [shape[0]], for indices the codebook, [centroids].
    """
    shape, grid, centroids = how
    count = math.prod(shape)
    kept = _kept(parts, count, coded=coded)
    wanted = count if kept is None else len(kept)
    if grid is None and not centroids:
        values = _part(parts, VALUES)
        if values.ndim != 1 or kept is None or len(values) != wanted:
            raise _unfit(f"values of shape {list(values.shape)}", wanted, shape)
    else:
        stream, alphabet = _part(parts, INDICES if centroids else INTEGERS), centroids or len(grid or ())
        symbols = symbols_of(stream, wanted, alphabet) if coded else fixed(stream, wanted, alphabet)
        if symbols.max(initial=0) >= alphabet:
            raise _unfit(f"a symbol that is none of {alphabet}", wanted, shape)
        entries = (centroids,) if centroids else shape[:1]
        if len(shape) < 2 or table is None or table.shape != entries or table.dtype != np.float32:
            raise ValueError(f"expected NAME{how.table}, float32 of shape {list(entries)}, beside it. Export again")
        values = table[symbols] if centroids else np.array(grid, dtype=np.int8)[symbols]
    if kept is not None:
        everything = np.zeros(count, dtype=values.dtype)
        everything[kept] = values
        values = everything
    values = values.reshape(shape)
    if grid is None or table is None:
        return values
    weight: npt.NDArray[np.float32] = values.astype(np.float32) * table.reshape(-1, *[1] * (len(shape) - 1))
    return weight


def fixed(body: npt.NDArray[Any], count: int, alphabet: int) -> Bytes:
    """The symbols of fixed length: [count]. Of a power of 2 as many bits each, lowest first; of 3 five to a byte."""
    require_bytes(body)
    if len(body) != fixed_bytes(count, alphabet):
        raise _unfit(f"{len(body)} bytes of {alphabet} symbols", count, None)
    bits = (alphabet - 1).bit_length()
    if alphabet & (alphabet - 1):
        digits = body[:, None].astype(np.int64) // 3 ** np.arange(5) % 3
        return digits.astype(np.uint8).reshape(-1)[:count]
    parts = [np.zeros(0, dtype=np.uint8)]
    for start in range(0, count, CHUNK):
        number = min(CHUNK, count - start)
        chunk = body[start * bits // 8 : start * bits // 8 + -(-number * bits // 8)]
        spread = np.unpackbits(chunk, count=number * bits, bitorder="little").reshape(number, bits)
        parts.append(np.packbits(spread, axis=1, bitorder="little")[:, 0])
    return np.concatenate(parts)


def fixed_bytes(count: int, alphabet: int) -> int:
    """How many bytes `fixed` wants. Alphabets are powers of 2, and 3."""
    if alphabet == 3:
        return -(-count // 5)
    if not 2 <= alphabet <= 256 or alphabet & (alphabet - 1):
        raise ValueError(f"expected 3 or a power of 2 up to 256 symbols, got {alphabet}. Export again")
    return -(-count * (alphabet - 1).bit_length() // 8)


def symbols_of(stream: npt.NDArray[Any], count: int | None, alphabet: int | None) -> Bytes:
    """The symbols of a coded stream: [count]. `count` and `alphabet`: what they have to be, None for any."""
    require_bytes(stream)
    if len(stream) < 6:
        raise _unfit(f"a stream of {len(stream)} bytes", count, None)
    kind, size, number = struct.unpack(STREAM, stream[:6].tobytes())
    size, body = size + 1, stream[6:]
    lanes = -(-number // LANE)
    # Before anything is allocated: the number may be anybody's, the bytes are there.
    if number != (number if count is None else count) or size != (size if alphabet is None else alphabet):
        raise _unfit(f"a stream of {number} of {size} symbols", count, None)
    if kind != FIXED and len(body) < 4 * lanes + (2 * size if kind == RANS else -(-size // 2)):
        raise _unfit(f"a stream of {len(body)} bytes for {number} symbols", count, None)
    if kind > RANS:
        raise ValueError(f"expected a stream of kind 0 to 2, got {kind}. Export again, or update this reader")
    if kind == FIXED:
        return fixed(body, number, size)
    return (_huffman if kind == HUFFMAN else _rans)(body, number, size, lanes)


def _huffman(body: Bytes, count: int, size: int, lanes: int) -> Bytes:
    """Canonical Huffman codes: a nibble for the length of each, the bit at which each lane begins, and the codes,
    highest bit first. A lane has `LANE` consecutive symbols."""
    table = -(-size // 2)
    lengths = np.stack([body[:table] & 15, body[:table] >> 4], axis=1).reshape(-1)[:size].astype(np.int64)
    used = np.flatnonzero(lengths)
    order = used[np.argsort(lengths[used], kind="stable")]
    reach = 1 << (LONGEST - lengths[order])
    if reach.sum() != 1 << LONGEST:
        raise ValueError("expected the lengths of a Huffman code, got others. Export again")
    symbol_of = np.repeat(order.astype(np.uint8), reach)  # whatever 15 bits come next: [2^15]
    starts = body[table : table + 4 * lanes].view(np.dtype("<u4")).astype(np.int64)
    codes = body[table + 4 * lanes :]
    padded = np.concatenate([codes, np.zeros(3, dtype=np.uint8)]).astype(np.int64)
    at, last = starts.copy(), count - (lanes - 1) * LANE
    out = np.zeros((lanes, min(LANE, count)), dtype=np.uint8)
    for step in range(out.shape[1]):
        active = lanes if step < last else lanes - 1  # the last lane may be short
        now = at[:active]
        byte = np.minimum(now >> 3, len(codes))
        window = (padded[byte] << 16 | padded[byte + 1] << 8 | padded[byte + 2]) >> (9 - (now & 7))
        found = symbol_of[window & ((1 << LONGEST) - 1)]
        out[:active, step] = found
        now += lengths[found]
    ends = np.append(0, at)
    if (ends[:-1] != starts).any() or -(-int(ends[-1]) // 8) != len(codes):
        raise ValueError("expected Huffman codes that fill their stream, got others. Export again")
    return out.reshape(-1)[:count]


def _rans(body: Bytes, count: int, size: int, lanes: int) -> Bytes:
    """Static rANS (Duda 2013, arXiv 1311.2540), its lanes interleaved: a frequency for each symbol, the state of each
    lane, and 16-bit words, which the lanes take in turn. Symbol i is that of lane i modulo the number of lanes."""
    frequencies = body[: 2 * size].view(np.dtype("<u2")).astype(np.int64)
    if frequencies.sum() != 1 << PRECISION:
        raise ValueError("expected frequencies that add up to 4096, got others. Export again")
    state = body[2 * size : 2 * size + 4 * lanes].view(np.dtype("<u4")).astype(np.int64)
    rest = body[2 * size + 4 * lanes :]
    if len(rest) % 2:
        raise ValueError("expected whole words of two bytes, got a half. Export again")
    words = rest.view(np.dtype("<u2")).astype(np.int64)
    before = np.cumsum(frequencies) - frequencies
    symbol_of = np.repeat(np.arange(size, dtype=np.uint8), frequencies)
    out, at = np.zeros(count, dtype=np.uint8), 0
    for start in range(0, count, max(lanes, 1)):
        now = state[: min(lanes, count - start)]
        slot = now & ((1 << PRECISION) - 1)
        found = symbol_of[slot]
        out[start : start + len(now)] = found
        now[:] = frequencies[found] * (now >> PRECISION) + slot - before[found]
        (low,) = (now < LOWEST_STATE).nonzero()
        if at + len(low) > len(words):
            raise ValueError("expected more words in a stream of rANS than there are. Export again")
        now[low] = now[low] << 16 | words[at : at + len(low)]
        at += len(low)
    if at != len(words) or (state != LOWEST_STATE).any():
        raise ValueError("expected a stream of rANS that ends as it began, got another. Export again")
    return out


def require_bytes(array: npt.NDArray[Any]) -> None:
    """Raise `ValueError` unless `array` is a row of bytes."""
    if array.dtype != np.uint8 or array.ndim != 1:
        raise ValueError(f"expected a row of bytes, got {array.dtype} of shape {list(array.shape)}")


def _kept(parts: Parts, count: int, *, coded: bool) -> npt.NDArray[np.int64] | None:
    """Where the numbers that are stored stand among all, ascending: [stored]; None for all of them."""
    if GAPS in parts:
        return _after_gaps(parts[GAPS], count)
    if MASK not in parts:
        return None
    if coded:
        nibbles = symbols_of(parts[MASK], -(-count // 4), 16)
        return np.flatnonzero((nibbles[:, None] >> np.arange(4) & 1).reshape(-1)[:count])
    return np.flatnonzero(fixed(parts[MASK], count, 2))


def _after_gaps(stream: npt.NDArray[Any], count: int) -> npt.NDArray[np.int64]:
    """The places that gaps tell: each symbol is so many zeros, and a number after them unless it is the highest
    symbol, which stands for the part of a gap that is longer. What is left at the end is a shorter gap."""
    require_bytes(stream)
    if count > MOST_NUMBERS * len(stream):
        raise _unfit(f"{len(stream)} bytes of gaps", count, None)
    symbols = symbols_of(stream, None, None)
    highest = int(stream[1])
    number = symbols < highest
    ends = np.cumsum(symbols.astype(np.int64) + number)
    filled = int(ends[-1]) if len(ends) else 0
    if not count - highest < filled <= count:
        raise _unfit(f"gaps of {filled} numbers", count, None)
    places: npt.NDArray[np.int64] = ends[number] - 1
    return places


def _content(data: bytes) -> tuple[dict[str, npt.NDArray[Any]], str | None]:
    """Name -> array of a safetensors file, and what its metadata say of packing, if anything."""
    length = struct.unpack("<Q", data[:8])[0] if len(data) >= 8 else 2**64
    if length > len(data) - 8:
        raise ValueError("expected a safetensors file, got one that is too short for its header. Export again")
    try:
        header = json.loads(data[8 : 8 + length])
        told = header.pop("__metadata__", {}).get("packing")
        return {name: _array(entry, data[8 + length :]) for name, entry in header.items()}, told
    except (TypeError, KeyError, AttributeError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(f"expected the header of a safetensors file, got another ({error}). Export again") from error


def _array(entry: Mapping[str, Any], data: bytes) -> npt.NDArray[Any]:
    dtype, shape, (start, end) = entry["dtype"], tuple(_whole(size) for size in entry["shape"]), entry["data_offsets"]
    if dtype not in _TYPES:
        raise ValueError(f"expected numbers that NumPy knows, got {dtype!r:.80}. Read the file with safetensors")
    kind = np.dtype(_TYPES[dtype]).newbyteorder("<")
    if not 0 <= _whole(start) <= _whole(end) <= len(data) or end - start != math.prod(shape) * kind.itemsize:
        raise ValueError(f"{end - start} bytes do not fill a tensor of shape {list(shape)}. Export again")
    array = np.frombuffer(data[start:end], dtype=kind)
    if dtype == "BF16":
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array.reshape(shape)


def _part(parts: Parts, suffix: str) -> npt.NDArray[Any]:
    if suffix not in parts:
        raise ValueError(f"expected a part {suffix} of a packed tensor or file, got none. Export again")
    return parts[suffix]


def _whole(value: Any) -> int:
    """`value`, if it is a whole number of at least 0 and no truth value."""
    return int(_told(value, type(value) is int and 0 <= value < 2**62, "a size"))


def _twos_complement(bits: object) -> tuple[int, ...]:
    """The integer that each pattern of so many bits stands for."""
    half = 1 << (_bits_of(bits, 2) - 1)
    return (*range(half), *range(-half, 0))


def _bits_of(bits: Any, least: int) -> int:
    return int(_told(bits, type(bits) is int and least <= bits <= 8, f"a symbol of {least} to 8 bits"))


def _grid(numbers: Any) -> tuple[int, ...]:
    right = isinstance(numbers, list) and all(type(n) is int and -128 <= n <= 127 for n in numbers)
    fixed_bytes(0, len(_told(numbers, right, "a grid of integers")))
    return tuple(numbers)


def _told(value: Any, right: bool, expected: str) -> Any:
    """`value` of the metadata, if it is right."""
    if not right:
        raise ValueError(f"its metadata have {value!r:.80} where {expected} is expected")
    return value


def _unfit(what: str, count: int | None, shape: tuple[int, ...] | None) -> ValueError:
    told = f"tensor of {count} numbers" if shape is None else f"tensor of shape {list(shape)} with {count} stored"
    return ValueError(f"{what} do not fill a {told}. Export again")
