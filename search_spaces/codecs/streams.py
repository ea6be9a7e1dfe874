"""Streams of symbols in a packed file, each in the shortest of three codes; and the gaps between numbers that are kept.

A stream of fixed length is bits or digits one after the other. A coded stream, as `search_spaces.codecs.reader` reads
it, says of itself which code it has: fixed length, Huffman or rANS.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from search_spaces.codecs import huffman, rans
from search_spaces.codecs.reader import CHUNK, FIXED, HUFFMAN, MOST_NUMBERS, RANS, STREAM, fixed_bytes

Symbols = npt.NDArray[np.uint8]
"""[n]"""


@dataclass(frozen=True)
class Stream:
    """Symbols that may be written."""

    length: int
    """Bytes; about so many for rANS."""
    write: Callable[[], Tensor]
    """The stream: uint8, [about `length`]."""


def stream(symbols: Symbols, alphabet: int, *, coded: bool) -> Stream:
    """The `symbols`, each below `alphabet`: at fixed length, or if `coded` in the shortest of the codes."""
    length = fixed_bytes(len(symbols), alphabet)
    if not coded:
        return Stream(length, lambda: _row(fixed(symbols, alphabet)))
    counts = np.bincount(symbols, minlength=alphabet)
    codes: dict[int, tuple[int, Callable[[], bytes]]] = {
        FIXED: (length, lambda: fixed(symbols, alphabet)),
        HUFFMAN: (huffman.body_bytes(counts), lambda: huffman.body(symbols, counts)),
        RANS: (rans.body_bytes(counts), lambda: rans.body(symbols, counts)),
    }
    code = min(codes, key=lambda code: codes[code][0])
    header = struct.pack(STREAM, code, alphabet - 1, len(symbols))
    return Stream(len(header) + codes[code][0], lambda: _row(header + codes[code][1]()))


def fixed(symbols: Symbols, alphabet: int) -> bytes:
    """So many bits of each symbol as the alphabet asks for, lowest first, of 3 symbols five to a byte; then zeros."""
    if alphabet == 3:
        digits = np.append(symbols, np.zeros(-len(symbols) % 5, dtype=np.uint8)).reshape(-1, 5)
        return bytes((digits @ 3 ** np.arange(5)).astype(np.uint8))
    bits = (alphabet - 1).bit_length()
    chunks = (symbols[start : start + CHUNK] for start in range(0, len(symbols), CHUNK))
    spread = (np.unpackbits(chunk[:, None], axis=1, count=bits, bitorder="little") for chunk in chunks)
    return b"".join(np.packbits(part, bitorder="little").tobytes() for part in spread)


def mask_symbols(mask: npt.NDArray[np.bool_]) -> Symbols:
    """Four bits of a mask, [n], lowest first, in each symbol: [ceil(n / 4)]. A code of single bits gains nothing."""
    padded = np.append(mask, np.zeros(-len(mask) % 4, dtype=bool)).reshape(-1, 4)
    return np.packbits(padded, axis=1, bitorder="little")[:, 0]


def gaps(kept: npt.NDArray[np.int64], count: int) -> Stream | None:
    """The zeros before each of the numbers `kept`, ascending places among `count`, as a coded stream.

    Deep Compression (Han et al. 2016, section 3): of so many bits as make the stream shortest; a gap too long for them
    is told by the highest symbol as often as it takes. That stands for no number, where theirs stores a zero. None
    where so much is left out that a reader would refuse to believe it.
    """
    found = min((stream(_gap_symbols(kept, count, b), 1 << b, coded=True) for b in range(2, 9)), key=lambda s: s.length)
    return found if count <= MOST_NUMBERS * (found.length - 8) else None


def _gap_symbols(kept: npt.NDArray[np.int64], count: int, bits: int) -> Symbols:
    highest = (1 << bits) - 1
    zeros = np.diff(kept, prepend=-1) - 1  # before each: [stored]
    tail = count - 1 - (int(kept[-1]) if len(kept) else -1)
    ends = np.cumsum(zeros // highest + 1)
    symbols = np.full((int(ends[-1]) if len(ends) else 0) + tail // highest, highest, dtype=np.uint8)
    symbols[ends - 1] = zeros % highest
    return symbols


def _row(content: bytes) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else torch.zeros(0, dtype=torch.uint8)
