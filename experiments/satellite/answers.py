"""What is sent down in place of the picture: a mask of buildings as runs or as polygons, deflated, and read back."""

from __future__ import annotations

import struct
import zlib
from itertools import pairwise

import contourpy
import numpy as np
from PIL import Image, ImageDraw

TOLERANCE = 1.2
"""Pixels that an outline may be off where corners are left out (Douglas and Peucker 1973)."""
SMALLEST = 12
"""Pixels: what is smaller is no building, and is not sent as a polygon."""


def runs(mask: np.ndarray) -> bytes:
    """The lengths of what is 0 and 1 in turn, row after row, deflated. `mask`: [h, w] bool."""
    flat = mask.reshape(-1)
    ends = np.append(np.flatnonzero(np.diff(flat)) + 1, len(flat))
    lengths = np.diff(ends, prepend=0)
    if flat[0]:
        lengths = np.append(0, lengths)
    return zlib.compress(_whole_numbers(lengths), 9)


def mask_of_runs(content: bytes, shape: tuple[int, int]) -> np.ndarray:
    """The inverse of `runs`: [h, w] bool."""
    lengths = _numbers_of(zlib.decompress(content))
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(shape)


def polygons(mask: np.ndarray) -> bytes:
    """The outlines of what is 1, corners to half a pixel, deflated: how many corners, where each begins, the steps.

    Holes are left out, and what is smaller than `SMALLEST`. `mask`: [h, w] bool.
    """
    padded = np.pad(mask, 1).astype(np.float32)
    lines = contourpy.contour_generator(z=padded).lines(0.5)
    outlines = [_simplified(np.asarray(line)[:-1] - 1) for line in lines if _area(np.asarray(line)) >= SMALLEST]
    corners = [np.rint(2 * outline).astype(np.int64) for outline in outlines if len(outline) > 2]
    corners.sort(key=lambda outline: (outline[0, 1] // 128, outline[0, 0]))
    starts = np.array([outline[0] for outline in corners]).reshape(-1, 2)
    steps = np.concatenate([np.diff(outline, axis=0) for outline in corners] or [np.zeros((0, 2), np.int64)])
    moves = np.diff(starts, axis=0, prepend=np.zeros((1, 2), np.int64))
    rows = [np.array([len(outline) for outline in corners]), *(_folded(part) for part in (*moves.T, *steps.T))]
    packed = [zlib.compress(_whole_numbers(row), 9) for row in rows]
    return struct.pack(f"<{len(packed)}I", *map(len, packed)) + b"".join(packed)


def mask_of_polygons(content: bytes, shape: tuple[int, int]) -> np.ndarray:
    """What the polygons cover: [h, w] bool."""
    lengths = struct.unpack_from("<5I", content)
    ends = np.cumsum([20, *lengths])
    rows = [_numbers_of(zlib.decompress(content[a:b])) for a, b in pairwise(ends)]
    counts, moves, steps = rows[0], np.stack([_unfolded(r) for r in rows[1:3]], 1), [_unfolded(r) for r in rows[3:]]
    starts, at = np.cumsum(moves, axis=0), 0
    image = Image.new("1", (shape[1], shape[0]))
    draw = ImageDraw.Draw(image)
    for start, count in zip(starts, counts, strict=True):
        path = np.stack([step[at : at + count - 1] for step in steps], 1)
        outline = np.concatenate([start[None], start + np.cumsum(path, axis=0)]) / 2
        draw.polygon([(float(x), float(y)) for x, y in outline], fill=1)
        at += count - 1
    return np.asarray(image)


def _area(line: np.ndarray) -> float:
    """What an outline encloses; 0 for that of a hole, which runs the other way round."""
    x, y = line[:, 0], line[:, 1]
    return max(0.0, float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) / 2)


def _simplified(outline: np.ndarray) -> np.ndarray:
    """The corners of a closed outline, [n, 2], without those whose absence moves it by less than `TOLERANCE`."""
    far = int(np.argmax(np.sum((outline - outline[0]) ** 2, axis=1)))
    closed = np.concatenate([outline, outline[:1]])
    kept = np.zeros(len(closed), dtype=bool)
    kept[[0, far, len(closed) - 1]] = True
    spans = [(0, far), (far, len(closed) - 1)]
    while spans:
        first, last = spans.pop()
        if last - first < 2:
            continue
        a, b = closed[first], closed[last]
        along = b - a
        away = closed[first + 1 : last] - a
        length = np.hypot(*along)
        distance = np.hypot(*away.T) if length == 0 else np.abs(along[0] * away[:, 1] - along[1] * away[:, 0]) / length
        worst = int(np.argmax(distance))
        if distance[worst] > TOLERANCE:
            middle = first + 1 + worst
            kept[middle] = True
            spans += [(first, middle), (middle, last)]
    return closed[:-1][kept[:-1]]


def _folded(numbers: np.ndarray) -> np.ndarray:
    """0, -1, 1, -2, ... as 0, 1, 2, 3, ..."""
    return np.where(numbers < 0, -2 * numbers - 1, 2 * numbers)


def _unfolded(numbers: np.ndarray) -> np.ndarray:
    return np.where(numbers % 2, -(numbers + 1) // 2, numbers // 2)


def _whole_numbers(numbers: np.ndarray) -> bytes:
    """Whole numbers of 7 bits a byte, lowest first; the highest bit says that more come (LEB128)."""
    left, out = np.asarray(numbers, dtype=np.uint64), []
    while True:
        more = left >> np.uint64(7)
        out.append((left & np.uint64(127)) | np.where(more > 0, np.uint64(128), np.uint64(0)))
        if not more.any():
            break
        left = more
    table = np.stack(out, 1).astype(np.uint8)
    there = np.ones(table.shape, dtype=bool)
    there[:, 1:] = np.logical_and.accumulate(table[:, :-1] >= 128, axis=1)
    return table[there].tobytes()


def _numbers_of(content: bytes) -> np.ndarray:
    """The inverse of `_whole_numbers`: [n] int64."""
    raw = np.frombuffer(content, dtype=np.uint8).astype(np.int64)
    last = raw < 128
    number = np.cumsum(last) - last
    starts = np.flatnonzero(np.append(True, last[:-1])) if len(raw) else np.zeros(0, dtype=np.int64)
    shift = 7 * (np.arange(len(raw)) - starts[number])
    found = np.zeros(int(last.sum()), dtype=np.int64)
    np.add.at(found, number, (raw & 127) << shift)
    return found
