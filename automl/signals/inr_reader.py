"""Reads a file `.inr` with NumPy alone: `read(path)` gives its network, `drawn(network, shape)` the signal.

This file imports nothing of the program that wrote the network, so that it can be copied away and used by itself:
`python inr_reader.py photo.inr back.npy`. What is no such file is a `ValueError`, before anything is allocated that is
out of proportion to the bytes that are there.

A file is `inr1`, two bytes of a checksum, a header of small numbers, and the weights and biases layer by layer: as
float16, or as integers times a step for each tensor, in one stream of an adaptive binary arithmetic code.
"""

from __future__ import annotations

import hashlib
import io
import math
import struct
import sys
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

MAGIC = b"inr1"
KINDS = ("image", "audio", "array")
TYPES = ("f4", "f8", "f2", "u1", "u2", "u4", "i1", "i2", "i4", "i8", "u8")
"""NumPy's names of what an array is written back as; a header has the place in this list."""
FEATURES, DIFFERENCE, CODED = 4, 8, 16
"""Bits of the first number of a header, whose two lowest are the place of the kind in `KINDS`."""
MOST_POINTS = 2**27
"""Points of a grid: more are refused."""
MOST_BYTES = 2**28
"""Bytes of the numbers of a grid, and of a network: more are refused."""
MOST_PER_BYTE, SPARED = 12_000, 4
"""Integers for a byte of a stream: more are refused, as a zero takes more than 0.0007 bits; and how many zero bytes a
stream may lack at its end."""
START_BYTES = 8
"""So many bytes of the SHA-256 of a start's file name it."""
CHUNK = 2**16
"""Points that are drawn at once."""
PRECISION, LIMIT, CLASSES, LOWEST_RANGE = 16, 1000, 32, 1 << 24
"""Of the arithmetic code: bits of a probability, after how many bits counts are halved, the most binary digits of an
integer and one, and below which a range takes in another byte."""


@dataclass(frozen=True)
class Layout:
    """What a file says beside its weights: the signal's grid, and the architecture of the network."""

    kind: str
    """One of `KINDS`."""
    shape: tuple[int, ...]
    """The lengths of the axes."""
    channels: int
    width: int
    depth: int
    """Layers of sines."""
    w0: int
    frequencies: int = 0
    """Fourier features of each axis; 0 for the coordinates themselves."""
    base: int = 140
    """By which their frequencies rise, in hundredths."""
    coded: bool = True
    """Whether weights are integers in a coded stream, or float16."""
    start: bytes = b""
    """The first bytes of the SHA-256 of the file that the weights are a difference from; nothing for none."""
    facts: tuple[float, ...] = ()
    """Of a sound its rate; of an array the place of its type in `TYPES`, its lowest and its highest value."""

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of weight and bias of each layer in turn."""
        first = len(self.shape) * (2 * self.frequencies or 1)
        sizes = [first, *[self.width] * self.depth, self.channels]
        return tuple(shape for reads, makes in pairwise(sizes) for shape in ((makes, reads), (makes,)))

    @property
    def parameters(self) -> int:
        """How many weights and biases the network has."""
        return sum(math.prod(shape) for shape in self.shapes)


@dataclass(frozen=True)
class Network:
    """A network as its file has it."""

    layout: Layout
    tensors: tuple[Array, ...]
    """Weight [out, in] and bias [out] of each layer in turn."""


def read(path: str | Path, start: str | Path | None = None) -> Network:
    """The network in the file at `path`. `start`: the file that its weights are a difference from, if they are."""
    data = Path(path).read_bytes()
    return network_of(data, None if start is None else Path(start).read_bytes())


def network_of(data: bytes, start: bytes | None = None) -> Network:
    """The network of a file with the content `data`."""
    layout, body = opened(data)
    first, there = _origin(layout, start)
    if not layout.coded:
        tensors = _plain(layout, body)
    else:
        number = len(layout.shapes)
        if len(body) < number or layout.parameters > MOST_PER_BYTE * (len(body) - number + SPARED):
            raise ValueError(f"{len(body)} bytes do not hold {layout.parameters} weights. Encode again")
        tensors = _coded(layout, [step_of(byte) for byte in body[:number]], body[number:], there)
    return Network(layout, tuple(a + b for a, b in zip(first, tensors, strict=True)) if first else tensors)


def start_of(content: bytes) -> tuple[tuple[Array, ...], tuple[Array | None, ...]]:
    """Weight and bias of each layer of a start, and where a network may differ from it (None: everywhere). It is
    another file of this kind, or an .npz file of `automl learn-start`."""
    if content[:4] == MAGIC:
        tensors = network_of(content).tensors
        return tensors, (None,) * len(tensors)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as parts:
            if any(part.compress_type != zipfile.ZIP_STORED for part in parts.infolist()):
                raise ValueError("it is compressed")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            layers = sum(name.startswith("shared.layers.") for name in arrays) // 2
            names = [f"layers.{number}.{part}" for number in range(layers) for part in ("weight", "bias")]
            found = tuple(arrays[f"shared.{name}"].astype(np.float32) for name in names)
            return found, tuple(arrays.get(f"mask.{name}") for name in names)
    except (OSError, KeyError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"expected a start, a file .inr or of `automl learn-start`, got another ({error})") from error


def _origin(layout: Layout, start: bytes | None) -> tuple[tuple[Array, ...], tuple[Array | None, ...]]:
    """What the weights of a file are a difference from, nothing for none, and where they may differ."""
    if not layout.start:
        return (), (None,) * len(layout.shapes)
    if start is None:
        raise ValueError(f"expected the start that this file is a difference from, SHA-256 {layout.start.hex()}...")
    if name_of(start) != layout.start:
        raise ValueError(f"expected a start of SHA-256 {layout.start.hex()}..., got {name_of(start).hex()}...")
    first, there = start_of(start)
    if tuple(tensor.shape for tensor in first) != layout.shapes:
        raise ValueError("expected a start of the same architecture, got another. Give the one it was encoded from")
    return first, there


def opened(data: bytes) -> tuple[Layout, bytes]:
    """What the header of a file says, and the bytes after it."""
    if data[:4] != MAGIC or len(data) < 7:
        raise ValueError("expected a file of a network that draws a signal (.inr), got another or a part of one")
    if data[4:6] != checksum(data[6:]):
        raise ValueError("expected the bytes that were written, got others: the file is cut off or damaged")
    header = _Numbers(data[6:])
    flags = header.next()
    if flags & 3 >= len(KINDS) or flags > 31:
        raise ValueError(f"expected a kind of signal that this reader knows, got number {flags}")
    kind = KINDS[flags & 3]
    shape = tuple(header.next(1) for _ in range(header.next(1, 16)))
    channels, width, depth, w0 = (header.next(1) for _ in range(4))
    frequencies, base = (header.next(1), header.next(1)) if flags & FEATURES else (0, 140)
    facts: tuple[float, ...] = ()
    if kind == "audio":
        facts = (float(header.next(1)),)
    elif kind == "array":
        facts = (float(header.next(0, len(TYPES) - 1)), *struct.unpack("<2f", header.take(8)))
    start = header.take(START_BYTES) if flags & DIFFERENCE else b""
    layout = Layout(kind, shape, channels, width, depth, w0, frequencies, base, bool(flags & CODED), start, facts)
    _require_points(shape, channels)
    if depth > 256 or 4 * layout.parameters > MOST_BYTES:
        raise ValueError(f"expected a network of at most {MOST_BYTES:,} bytes and 256 layers, got a larger one")
    return layout, header.rest


def drawn(network: Network, shape: Sequence[int] | None = None) -> Array:
    """The values of the signal on a grid of `shape`, the signal's own if None: float32, [*axes, channels] in [0, 1]."""
    layout = network.layout
    grid = layout.shape if shape is None else tuple(shape)
    if len(grid) != len(layout.shape):
        raise ValueError(f"expected a size of {len(layout.shape)} axes, got {len(grid)}")
    _require_points(grid, layout.channels)
    axes = [np.linspace(-1, 1, length, dtype=np.float32) if length > 1 else np.zeros(1, np.float32) for length in grid]
    points = math.prod(grid)
    out = np.empty((points, layout.channels), dtype=np.float32)
    for begin in range(0, points, CHUNK):
        numbers = np.arange(begin, min(begin + CHUNK, points))
        places = np.stack([axis[i] for axis, i in zip(axes, np.unravel_index(numbers, grid), strict=True)], 1)
        out[begin : begin + CHUNK] = _values(network, places)
    return np.clip(out, 0, 1).reshape(*grid, layout.channels)


def as_stored(values: Array, layout: Layout) -> npt.NDArray[Any]:
    """`values` of a signal as its kind is kept: an image in whole numbers of 8 bits, a sound in those of 16 bits
    [samples, channels], an array in its own numbers and shape, without an axis of one channel."""
    if layout.kind == "image":
        return np.rint(values * 255).astype(np.uint8)
    if layout.kind == "audio":
        return (np.rint(values.astype(np.float64) * 65535) - 32768).astype(np.int16)
    number, low, high = layout.facts
    kind = np.dtype(TYPES[int(number)])
    scaled = values.astype(np.float64) * (high - low) + low
    if kind.kind in "iu":
        scaled = np.clip(np.rint(scaled), np.iinfo(kind).min, np.iinfo(kind).max)
    found: npt.NDArray[Any] = scaled.astype(kind)
    return found[..., 0] if layout.channels == 1 else found


def step_of(byte: int) -> float:
    """The step that a byte stands for: three bits of a mantissa from 8 to 15, five of an exponent from -24 to 7."""
    return (8 + (byte & 7)) * 2.0 ** ((byte >> 3) - 24)


def checksum(content: bytes) -> bytes:
    """Two bytes that are other ones, but for one time in 65536, if the content is."""
    return struct.pack("<H", zlib.crc32(content) & 0xFFFF)


def name_of(start: bytes) -> bytes:
    """What a file calls its start."""
    return hashlib.sha256(start).digest()[:START_BYTES]


@dataclass
class Bit:
    """What is known of a bit: how often it was 0 and 1, counted in halves; a half each to begin with (Krichevsky &
    Trofimov 1981)."""

    zeros: int = 1
    ones: int = 1

    @property
    def probability(self) -> int:
        """Of a 0, in parts of 2^16, never 0 or all."""
        return min(max((self.zeros << PRECISION) // (self.zeros + self.ones), 1), (1 << PRECISION) - 1)

    def see(self, bit: int) -> None:
        """Count it; of many, old ones count less."""
        if bit:
            self.ones += 2
        else:
            self.zeros += 2
        if self.zeros + self.ones > 2 * LIMIT:
            self.zeros, self.ones = (self.zeros + 1) // 2, (self.ones + 1) // 2


@dataclass
class Model:
    """What is known of the integers of a stream: of the number of their binary digits, and of the digit below the
    highest. Other digits and signs are taken to be even."""

    longer: list[Bit] = field(default_factory=lambda: [Bit() for _ in range(CLASSES)])
    """Whether an integer has more digits than so many."""
    second: list[Bit] = field(default_factory=lambda: [Bit() for _ in range(CLASSES)])
    """The digit below the highest, of integers of so many digits."""


class _Decoder:
    """A binary range decoder (Martin 1979; carries as in LZMA)."""

    def __init__(self, body: bytes) -> None:
        self._body, self._at, self._range, self._code = body, 0, 0xFFFFFFFF, 0
        for _ in range(4):
            self._shift()

    def _shift(self) -> None:
        byte = self._body[self._at] if self._at < len(self._body) else 0  # zeros at the end are left out
        self._at += 1
        self._code = (self._code << 8 | byte) & 0xFFFFFFFF

    def bit(self, known: Bit | None) -> int:
        """The next bit; None for one that is even."""
        bound = (self._range >> PRECISION) * (known.probability if known else 1 << (PRECISION - 1))
        found = int(self._code >= bound)
        if found:
            self._code -= bound
            self._range -= bound
        else:
            self._range = bound
        while self._range < LOWEST_RANGE:
            self._range <<= 8
            self._shift()
        if known:
            known.see(found)
        return found

    def integer(self, model: Model) -> int:
        """The next integer."""
        digits = 0
        while digits < CLASSES - 1 and self.bit(model.longer[digits]):
            digits += 1
        if digits == 0:
            return 0
        size = 1
        for place in range(digits - 1):
            size = size << 1 | self.bit(model.second[digits] if place == 0 else None)
        return -size if self.bit(None) else size

    def end(self) -> None:
        """Raise `ValueError` if bytes are left."""
        if self._at < len(self._body):
            raise ValueError(f"expected a stream of {self._at} bytes at most, got {len(self._body)}. Encode again")


def _coded(layout: Layout, steps: Sequence[float], body: bytes, there: Sequence[Array | None]) -> tuple[Array, ...]:
    """The tensors of a stream; weights and biases are told of by a model each. Only what may differ is in it."""
    decoder, models, tensors = _Decoder(body), (Model(), Model()), []
    for number, (shape, step, mask) in enumerate(zip(layout.shapes, steps, there, strict=True)):
        places = np.arange(math.prod(shape)) if mask is None else np.flatnonzero(mask)
        integers = np.zeros(math.prod(shape), dtype=np.float32)
        integers[places] = [decoder.integer(models[number % 2]) for _ in places]
        tensors.append((integers * np.float32(step)).reshape(shape))
    decoder.end()
    return tuple(tensors)


def _plain(layout: Layout, body: bytes) -> tuple[Array, ...]:
    if len(body) != 2 * layout.parameters:
        raise ValueError(f"{len(body)} bytes are not {layout.parameters} weights of two each. Encode again")
    numbers = np.frombuffer(body, dtype="<f2").astype(np.float32)
    ends = np.cumsum([math.prod(shape) for shape in layout.shapes])[:-1]
    parts = zip(np.split(numbers, ends), layout.shapes, strict=True)
    return tuple(part.reshape(shape) for part, shape in parts)


def _values(network: Network, places: Array) -> Array:
    """What the network gives at `places`: [n, axes] -> [n, channels]."""
    layout, values = network.layout, places
    if layout.frequencies:
        scale = math.pi * np.float32(layout.base / 100) ** np.arange(layout.frequencies, dtype=np.float32)
        angles = (places[:, :, None] * scale.astype(np.float32)).reshape(len(places), -1)
        values = np.concatenate([np.sin(angles), np.cos(angles)], 1)
    pairs = list(zip(network.tensors[::2], network.tensors[1::2], strict=True))
    for weight, bias in pairs[:-1]:
        values = np.sin(np.float32(layout.w0) * (values @ weight.T + bias))
    weight, bias = pairs[-1]
    return values @ weight.T + bias


def _require_points(shape: Sequence[int], channels: int) -> None:
    points = math.prod(shape)
    if not 0 < points <= MOST_POINTS or 4 * points * channels > MOST_BYTES:
        raise ValueError(f"expected a grid of at most {MOST_POINTS:,} points, {MOST_BYTES:,} bytes, got {list(shape)}")


class _Numbers:
    """The bytes of a header: numbers of seven bits a byte, lowest first, the highest bit set but in the last."""

    def __init__(self, data: bytes) -> None:
        self.rest = data

    def take(self, count: int) -> bytes:
        """The next bytes."""
        if len(self.rest) < count:
            raise ValueError("expected a whole header, got a part of one: the file is cut off or damaged")
        found, self.rest = self.rest[:count], self.rest[count:]
        return found

    def next(self, least: int = 0, most: int = 2**31) -> int:
        """The next number."""
        found, shift = 0, 0
        while True:
            (byte,) = self.take(1)
            found |= (byte & 127) << shift
            shift += 7
            if byte < 128 or shift > 35:
                break
        if not least <= found <= most:
            raise ValueError(f"expected a number from {least} to {most} in the header, got {found}")
        return found


if __name__ == "__main__":
    decoded = read(sys.argv[1], *sys.argv[3:])
    np.save(sys.argv[2], as_stored(drawn(decoded), decoded.layout))
