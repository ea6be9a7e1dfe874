"""Runs a network over a picture too large for memory, tile by tile, and joins what it makes.

Tiles overlap. Of what the network makes of each only the middle is kept, so that where the margin is at least the
network's receptive radius the result is that of the whole picture at once; at the picture's own edges tiles end where
the picture does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from automl.errors import DataError
from automl.util.extras import require
from automl.util.modes import evaluating

Predict = Callable[[np.ndarray], np.ndarray]
"""Tiles [n, channels, h, w] -> what is made of them, [n, ..., h, w]: as large as they are."""


class Writable(Protocol):
    """An array that parts are written into: in memory, mapped from a file, or of a library for large arrays."""

    def __setitem__(self, where: Any, values: Any, /) -> None:
        """Write a part."""


@dataclass(frozen=True)
class Tile:
    """A part of a picture that is handed to the network, and the part of it that is kept."""

    read: tuple[slice, slice]
    """Rows and columns that are read."""
    kept: tuple[slice, slice]
    """Rows and columns of the result that are written."""

    @property
    def inner(self) -> tuple[slice, slice]:
        """What is kept, counted within what is read."""
        rows, columns = (
            slice(kept.start - read.start, kept.stop - read.start)
            for kept, read in zip(self.kept, self.read, strict=True)
        )
        return rows, columns


def tiles(height: int, width: int, tile: int, margin: int, multiple: int = 1) -> Iterator[Tile]:
    """The tiles that cover a picture, row by row; what is kept of them covers each pixel once.

    All tiles are `tile` pixels a side, those at the far edges pushed back inside, and start at multiples of `multiple`,
    so that what a network halves is halved as in the whole picture; a picture smaller than a tile along an axis has
    tiles of its own length there. Sizes that cannot be are a `DataError`.
    """
    for name, value, least in (("tile", tile, 1), ("margin", margin, 0), ("multiple", multiple, 1)):
        if not isinstance(value, int) or value < least:
            raise DataError(f"{name} is a whole number of pixels, at least {least}, got {value!r}")
    if tile % multiple or tile <= 2 * margin or tile - 2 * margin < multiple:
        raise DataError(
            f"expected tiles of a multiple of {multiple} pixels, larger than two margins and that, got tile {tile} and "
            f"margin {margin}: take a larger tile, such as {multiple * -(-(4 * margin + multiple) // multiple)}"
        )
    for rows, kept_rows in _spans(height, tile, margin, multiple):
        for columns, kept_columns in _spans(width, tile, margin, multiple):
            yield Tile((rows, columns), (kept_rows, kept_columns))


def _spans(length: int, tile: int, margin: int, multiple: int) -> Iterator[tuple[slice, slice]]:
    """What is read and what is kept along one axis."""
    if length <= tile:
        yield slice(0, length), slice(0, length)
        return
    step = (tile - 2 * margin) // multiple * multiple
    done, start = 0, 0
    while done < length:
        start = min(start, -(-(length - tile) // multiple) * multiple)
        stop = min(start + tile, length)
        end = length if stop == length else stop - margin
        yield slice(start, stop), slice(done, end)
        done, start = end, start + step


def tiled(
    network: str | Path | nn.Module | Predict,
    scene: np.ndarray,
    *,
    tile: int | None = None,
    margin: int = 64,
    multiple: int = 1,
    batch: int = 1,
    before: Predict | None = None,
    after: Predict | None = None,
    out: Writable | None = None,
) -> Any:
    """Run `network` over `scene`, [channels, height, width], and return what it makes of it, [..., height, width].

    Only `batch` tiles are in memory at once, and the result, unless `out` is a mapped file: `numpy.memmap` serves for
    both, and any object that gives and takes parts as NumPy arrays do.

    Args:
        network: an exported ONNX file, a module, or a function of tiles [n, channels, h, w].
        scene: the picture; a part of it is read a tile.
        tile: pixels along a tile's sides; None: those that the file was exported for, if it takes no others, or 512.
        margin: pixels at a tile's edges of which nothing is kept, where the picture goes on: the network's receptive
            radius, for a result that is the same as that of the whole picture.
        multiple: tiles start at multiples of this, and the height and width of the scene are filled up to it with what
            stands at its edge: what the network divides them by, 8 for one that halves three times. A file that takes
            tiles of one size only gets those: a smaller scene is filled up.
        batch: tiles that the network is given at once.
        before: what is done to tiles first, such as scaling from bytes: [n, channels, h, w] as in the scene -> float.
        after: what is done to what the network makes, such as the most likely class: [n, classes, h, w] -> [n, h, w].
        out: where the result is written, of its shape; None: a new array.

    Errors: `DataError` for sizes that cannot be, and for a network that makes maps of another size than its tiles.
    """
    if len(scene.shape) != 3 or min(scene.shape) < 1:
        raise DataError(f"expected a scene [channels, height, width], got {list(scene.shape)}")
    predict, only = predictor(network)
    tile = (only or 512) if tile is None else tile
    if only not in (None, tile):
        raise DataError(f"the file takes tiles of {only} pixels only, got {tile}: leave `tile` out, or export it anew")
    job = _Job(predict, scene, tile if only else multiple, before, after)
    group: list[Tile] = []
    for one in tiles(*scene.shape[1:], tile, margin, multiple):
        if group and (len(group) == batch or _shape(one) != _shape(group[0])):
            out = job.run(group, out)
            group = []
        group.append(one)
    return job.run(group, out)


def predictor(network: str | Path | nn.Module | Predict) -> tuple[Predict, int | None]:
    """A function from tiles to what a network makes of them, and the one size of tiles that it takes; None: any.

    A network of several outputs gives its first. An ONNX file runs on as many threads as torch does.
    """
    if isinstance(network, nn.Module):
        module = network

        def run_here(x: np.ndarray) -> np.ndarray:
            with evaluating(module), torch.inference_mode():
                made = module(torch.from_numpy(x))
            return np.asarray((made[0] if isinstance(made, list | tuple) else made).numpy())

        return run_here, None
    if not isinstance(network, str | Path):
        return network, None
    require("running an ONNX file", "onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(network), options, providers=["CPUExecutionProvider"])
    asked = session.get_inputs()[0]
    sizes = {size for size in asked.shape[2:] if isinstance(size, int)}
    if len(sizes) > 1:
        raise DataError(f"expected a network of square tiles, got one of {asked.shape[2:]}: export it for a square")
    return lambda x: np.asarray(session.run(None, {asked.name: x})[0]), next(iter(sizes), None)


def _shape(one: Tile) -> tuple[int, int]:
    rows, columns = one.read
    return rows.stop - rows.start, columns.stop - columns.start


@dataclass(frozen=True)
class _Job:
    """What is done to every tile."""

    predict: Predict
    scene: np.ndarray
    multiple: int
    """The sides of what the network is given are multiples of this."""
    before: Predict | None
    after: Predict | None

    def run(self, group: Sequence[Tile], out: Any) -> Any:
        """Run some tiles of one shape, and write what is kept of them."""
        x = np.stack([self.scene[:, *one.read] for one in group])
        height, width = x.shape[2:]
        if height % self.multiple or width % self.multiple:
            more = (0, -height % self.multiple), (0, -width % self.multiple)
            x = np.pad(x, ((0, 0), (0, 0), *more), mode="edge")
        x = x if self.before is None else self.before(x)
        made = self.predict(x)
        if made.shape[-2:] != x.shape[-2:]:
            raise DataError(
                f"the network makes {list(made.shape[-2:])} of tiles of {list(x.shape[-2:])}: expected a map as large "
                f"as the tile, so scale what it makes in the network"
            )
        made = made if self.after is None else self.after(made)
        if out is None:
            out = np.empty((*made.shape[1:-2], *self.scene.shape[1:]), dtype=made.dtype)
        for one, part in zip(group, made, strict=True):
            out[(..., *one.kept)] = part[(..., *one.inner)]
        return out
