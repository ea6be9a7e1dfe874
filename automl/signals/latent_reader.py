"""Reads a file `.inr` of latents with NumPy alone: `drawn(read(path, start))` gives the values of the signal.

This file imports nothing of the program that wrote the signal, so that it can be copied away and used by itself:
`python latent_reader.py photo.inr start.npz back.npy`. What is no such file is a `ValueError`, before anything is
allocated that is out of proportion to the bytes that are there.

A file is `inrl`, two bytes of a checksum, a header of small numbers, the first bytes of the SHA-256 of the file of the
shared network, and the latents of all patches in the code that stands with that network. A patch is
drawn by the shared network with other biases: those of its hidden layers and a linear map of the patch's latent.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

MAGIC = b"inrl"
KINDS = ("image", "audio", "array")
START_BYTES = 8
"""So many bytes of the SHA-256 of a start's file name it."""
PRECISION = 12
"""The frequencies of levels add up to 2^12."""
MOST_BYTES = 2**28
"""Bytes of a grid: more are refused."""
BLOCK_BITS = 2048
"""What is taken out of the state of the code when it would have more than two such blocks."""
MOST_LATENTS = 2**20
"""Numbers in all latents of a file: more are refused, as reading takes a second for so many."""
ABOUT, SHARED, MAP, LEVELS, FREQUENCIES = "about", "shared.", "latent_to_shifts", "levels", "frequencies"
"""Names of what stands in the file of a shared network."""


@dataclass(frozen=True)
class Latents:
    """A signal as its file and that of the shared network have it."""

    kind: str
    shape: tuple[int, ...]
    """The lengths of the axes."""
    facts: tuple[float, ...]
    """Of a sound its rate; of an array the number of its type, its lowest and its highest value."""
    patch: tuple[int, ...]
    """The lengths of the axes of a patch."""
    w0: float
    weights: tuple[Array, ...]
    """Of each layer: [out, in]."""
    biases: tuple[Array, ...]
    """Of each layer: [patches, out]; patches in the order of their places, the last axis fastest."""


def read(path: str | Path, start: str | Path) -> Latents:
    """The signal in the file at `path`, whose shared network is in the file `start`."""
    return latents_of(Path(path).read_bytes(), Path(start).read_bytes())


def latents_of(data: bytes, start: bytes) -> Latents:
    """The signal of a file with the content `data`; `start` is that of the file of the shared network."""
    kind, shape, facts, name, body = _opened(data)
    if name != name_of(start):
        raise ValueError(f"expected a start of SHA-256 {name.hex()}..., got {name_of(start).hex()}...")
    arrays = arrays_of(start)
    about = json.loads(arrays[ABOUT].tobytes())
    patch = tuple(int(length) for length in about["patch"])
    if len(patch) != len(shape) or min(patch) < 1:
        raise ValueError(f"expected a signal of {len(patch)} axes, got one of {len(shape)}")
    layers = int(about["shape"]["depth"]) + 1
    weights = tuple(arrays[f"{SHARED}layers.{number}.weight"] for number in range(layers))
    if 4 * math.prod(shape) * len(weights[-1]) > MOST_BYTES:
        raise ValueError(f"expected a grid of at most {MOST_BYTES:,} bytes, got {list(shape)}")
    number, length = math.prod(patches_along(shape, patch)), arrays[SHARED + MAP].shape[1]
    if number * length > min(MOST_LATENTS, 8 * 64 * (len(body) + 1)):
        raise ValueError(f"{len(body)} bytes do not hold {number} latents of {length} numbers")
    symbols = symbols_of(body, arrays[FREQUENCIES].astype(np.int64), number * length)
    latents = arrays[LEVELS][symbols].reshape(number, length)
    own = [arrays[f"{SHARED}layers.{number}.bias"] for number in range(layers)]
    return Latents(kind, shape, facts, patch, float(about["shape"]["w0"]), weights, _biases(arrays, own, latents))


def drawn(signal: Latents, shape: Sequence[int] | None = None) -> Array:
    """The values on a grid of `shape`, the signal's own if None: float32, [*axes, channels] in [0, 1]."""
    grid = signal.shape if shape is None else tuple(shape)
    if len(grid) != len(signal.shape) or min(grid) < 1 or 4 * math.prod(grid) * len(signal.weights[-1]) > MOST_BYTES:
        raise ValueError(f"expected a size of {len(signal.shape)} axes and at most {MOST_BYTES:,} bytes, got {grid}")
    axes = [_along(*lengths) for lengths in zip(grid, signal.shape, signal.patch, strict=True)]
    out = np.empty((*grid, len(signal.weights[-1])), dtype=np.float32)
    counts = patches_along(signal.shape, signal.patch)
    for number, place in enumerate(product(*map(range, counts))):
        there = [np.flatnonzero(patch == at) for (patch, _), at in zip(axes, place, strict=True)]
        if all(map(len, there)):
            ways = np.meshgrid(*[at[i] for (_, at), i in zip(axes, there, strict=True)], indexing="ij")
            places = np.stack([way.reshape(-1) for way in ways], 1).astype(np.float32)
            values = _values(signal, number, places)
            out[np.ix_(*there)] = values.reshape(*map(len, there), -1)
    return np.clip(out, 0, 1)


def patches_along(shape: Sequence[int], patch: Sequence[int]) -> tuple[int, ...]:
    """How many patches lie along each axis; the last may reach beyond the signal."""
    return tuple(-(-length // side) for length, side in zip(shape, patch, strict=True))


def name_of(start: bytes) -> bytes:
    """What a file calls its start."""
    return hashlib.sha256(start).digest()[:START_BYTES]


def checksum(content: bytes) -> bytes:
    """Two bytes that are other ones, but for one time in 65536, if the content is."""
    return struct.pack("<H", zlib.crc32(content) & 0xFFFF)


def symbols_of(body: bytes, frequencies: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """The `count` symbols of a stream of rANS (Duda 2013, arXiv 1311.2540): blocks, and at the end its state."""
    before = (np.cumsum(frequencies) - frequencies).tolist()
    symbol_of = np.repeat(np.arange(len(frequencies)), frequencies).tolist()
    times = frequencies.tolist()
    block = BLOCK_BITS // 8
    end = block * max(-(-len(body) // block) - 2, 0)  # of the blocks; the state has more than one, two at most
    state, out = int.from_bytes(body[end:], "little"), np.zeros(count, dtype=np.int64)
    for place in range(count):
        slot = state & ((1 << PRECISION) - 1)
        symbol = symbol_of[slot]
        out[place] = symbol
        state = times[symbol] * (state >> PRECISION) + slot - before[symbol]
        if end and state >> BLOCK_BITS == 0:
            state = (state << BLOCK_BITS) + int.from_bytes(body[end - block : end], "little")
            end -= block
    if state != 1 or end:
        raise ValueError(f"{len(body)} bytes are not those of {count} symbols in this code")
    return out


def arrays_of(start: bytes) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a start's file. Nothing is read that claims more bytes than the file has."""
    with zipfile.ZipFile(io.BytesIO(start)) as parts:
        for part in parts.infolist():
            if part.compress_type != zipfile.ZIP_STORED or part.file_size > len(start):
                raise ValueError(f"its part {part.filename!r:.80} is compressed or longer than the file")
        bodies = {name.removesuffix(".npy"): parts.read(name) for name in parts.namelist()}
    return {name: np.lib.format.read_array(io.BytesIO(body), allow_pickle=False) for name, body in bodies.items()}


def _opened(data: bytes) -> tuple[str, tuple[int, ...], tuple[float, ...], bytes, bytes]:
    """Kind, shape and facts of the signal, the name of its start, and the latents."""
    if data[:4] != MAGIC or len(data) < 7:
        raise ValueError("expected a file of a signal's latents (.inr), got another or a part of one")
    if data[4:6] != checksum(data[6:]):
        raise ValueError("expected the bytes that were written, got others: the file is cut off or damaged")
    rest = iter(data[6:])
    kind = KINDS[_number(rest, len(KINDS) - 1)]
    shape = tuple(_number(rest) for _ in range(_number(rest, 16)))
    facts: tuple[float, ...] = ()
    if kind == "audio":
        facts = (float(_number(rest)),)
    elif kind == "array":
        facts = (float(_number(rest)), *struct.unpack("<2f", bytes(next(rest) for _ in range(8))))
    left = bytes(rest)
    if not shape or min(shape) < 1 or len(left) < START_BYTES:
        raise ValueError("expected a whole header, got a part of one")
    return kind, shape, facts, left[:START_BYTES], left[START_BYTES:]


def _number(data: Iterator[int], most: int = 2**31) -> int:
    """A number of a header: seven bits a byte, lowest first, the highest bit set but in the last."""
    found, shift = 0, 0
    for byte in data:
        found |= (byte & 127) << shift
        shift += 7
        if byte < 128 and found <= most:
            return found
        if shift > 28:
            break
    raise ValueError(f"expected a number of at most {most} in the header, got none")


def _biases(arrays: dict[str, Any], own: Sequence[Array], latents: Array) -> tuple[Array, ...]:
    """The biases of every patch, summed in float64 and rounded once: of each layer [patches, out]."""
    shifts = latents.astype(np.float64) @ arrays[SHARED + MAP].astype(np.float64).T
    ends = np.cumsum([len(bias) for bias in own[:-1]])[:-1]
    moved = [(bias + part).astype(np.float32) for bias, part in zip(own[:-1], np.split(shifts, ends, 1), strict=True)]
    return (*moved, np.repeat(own[-1][None], len(latents), 0))


def _along(points: int, length: int, side: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Of each of `points` along an axis of `length` in patches of `side`: its patch, and where it stands there."""
    if points == 1 or length == 1:
        patch, at = np.zeros(points, dtype=np.int64), np.zeros(points)
    else:
        steps = np.arange(points, dtype=np.int64) * (length - 1)
        patch = steps // ((points - 1) * side)
        at = steps / (points - 1) - patch * side
    return patch, 2 * at / (side - 1) - 1 if side > 1 else at * 0


def _values(signal: Latents, number: int, places: Array) -> Array:
    """What the network of a patch gives at `places` in it: [n, axes] -> [n, channels]."""
    values = places
    for weight, biases in zip(signal.weights[:-1], signal.biases[:-1], strict=True):
        values = np.sin(np.float32(signal.w0) * (values @ weight.T + biases[number]))
    found: Array = values @ signal.weights[-1].T + signal.biases[-1][number]
    return found


if __name__ == "__main__":
    np.save(sys.argv[3], drawn(read(sys.argv[1], sys.argv[2])))
