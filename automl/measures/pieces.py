"""The time of a network by the pieces it is computed as: measured once for each shape and some widths, then added up.

Every layer, or each of those that a factorised one becomes, is a piece: a shape (kernel, positions, groups), what it
reads and what it makes. For each shape in a space the time is measured at a grid of the widths that the space offers,
steps of the library among them, and interpolated between. Layers in a row are not quite what they are in a network:
sums, padding and what the library fuses are missing. So some random networks of the space are measured whole, beside
the original, and

    time = a * sum of pieces + b * number of layers + c * values made + d        a, b, c, d >= 0

is fitted to them (non-negative least squares), and scaled to the original. Factors never take more than the layer
that they stand for, so that time never falls when a level rises: where they are slower they save nothing.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from automl.config.latency import LatencyOptions
from automl.errors import StudyError
from search_spaces import NetworkSpace
from search_spaces.graph.tensors import WeightTensor
from search_spaces.pricing.sheet import Cost, Sheet

NOISY = 0.05
"""Half the interval of a whole network's ratio, above which the model says that the machine was busy."""


@dataclass(frozen=True, order=True)
class Shape:
    """A layer but for its widths."""

    kernel: tuple[int, int]
    height: int
    """Of what it makes; 0: a linear layer, applied `width` times a sample."""
    width: int
    groups: int = 1
    depthwise: bool = False
    """Whether there are as many groups as channels, however many those are."""

    def grouped(self, channels: int) -> int:
        """How many groups a layer of this shape has on so many channels."""
        return channels if self.depthwise else self.groups

    def to_record(self) -> list[Any]:
        """Plain data."""
        return [list(self.kernel), self.height, self.width, self.groups, self.depthwise]

    @classmethod
    def from_record(cls, told: Sequence[Any]) -> Shape:
        """The inverse of `to_record`."""
        kernel, height, width, groups, depthwise = told
        return cls((int(kernel[0]), int(kernel[1])), int(height), int(width), int(groups), bool(depthwise))


@dataclass(frozen=True)
class Grid:
    """Times of layers of one shape."""

    reads: tuple[float, ...]
    """Ascending."""
    mades: tuple[float, ...]
    times_ms: tuple[tuple[float, ...], ...]
    """[reads, mades]; never falling along either."""

    def to_record(self) -> dict[str, Any]:
        """Plain data."""
        rows = [list(row) for row in self.times_ms]
        return {"reads": list(self.reads), "mades": list(self.mades), "times_ms": rows}

    def covers(self, reads: Collection[int], mades: Collection[int]) -> bool:
        """Whether all these widths lie within the grid."""
        spans = ((self.reads, reads), (self.mades, mades))
        return all(grid[0] <= min(widths) and max(widths) <= grid[-1] for grid, widths in spans)

    def __call__(self, read: float, made: float) -> float:
        """The time, interpolated in both widths, that of the nearest end beyond the grid."""
        time = self._known.get((read, made))
        if time is None:
            row = [float(np.interp(made, self.mades, times)) for times in self.times_ms]
            time = self._known[read, made] = float(np.interp(read, self.reads, row))
        return time

    @cached_property
    def _known(self) -> dict[tuple[float, float], float]:
        """Times by widths, which are few: agents ask for the same ones thousands of times."""
        return {}


@dataclass(frozen=True)
class PieceModel:
    """Predicts the latency of the networks of one space on one backend."""

    original_ms: float
    """Of the original in float32, measured."""
    grids: Mapping[Shape, Grid]
    weights: tuple[float, ...]
    """Of the sum of pieces, the layers, the values made, and what every network takes: [4]."""
    scale: float
    held_out: float
    """The mean relative error on a measured network, predicted from the others."""
    device: str
    options: LatencyOptions
    busy: float = 0.0
    """Half the widest 95 % interval of a whole network's ratio to the original."""

    @property
    def unsteady(self) -> str | None:
        """What is wrong with the model's precision, or None."""
        if self.busy <= NOISY:
            return None
        return (
            f"the latency model was measured on a busy machine: half the 95 % interval of a network's ratio is up to "
            f"{self.busy:.1%}, where {NOISY:.0%} is wanted"
        )

    def scaled(self, factor: float) -> PieceModel:
        """One that predicts `factor` times as much of every network."""
        return replace(self, scale=self.scale * factor)

    def to_record(self) -> dict[str, Any]:
        """Plain data for the database."""
        told = {field.name: getattr(self, field.name) for field in fields(self)}
        grids = [[shape.to_record(), grid.to_record()] for shape, grid in self.grids.items()]
        changed = {"options": asdict(self.options), "weights": list(self.weights), "grids": grids}
        return {**told, **changed, "kind": "pieces"}

    @classmethod
    def from_record(cls, recorded: Mapping[str, Any]) -> PieceModel:
        """The inverse of `to_record`. Errors: `StudyError`."""
        try:
            told = {key: value for key, value in recorded.items() if key != "kind"}
            grids = {
                Shape.from_record(shape): Grid(
                    tuple(grid["reads"]), tuple(grid["mades"]), tuple(tuple(row) for row in grid["times_ms"])
                )
                for shape, grid in told.pop("grids")
            }
            weights = (*told.pop("weights"), 0.0)[:4]  # models of earlier versions have no constant
            options = LatencyOptions(**told.pop("options"))
            return cls(**told, options=options, weights=weights, grids=grids)
        except (TypeError, KeyError, ValueError) as error:
            raise StudyError(f"the latency model on record cannot be read: {error}. Start a new study") from error


@dataclass(frozen=True)
class Layer:
    """A layer of a network, whole or as its factors."""

    site: int
    """Its row in a price sheet."""
    pieces: tuple[tuple[Shape, float, float], ...]
    """Shape, read, made of each."""
    whole: tuple[Shape, float, float]

    @property
    def values(self) -> float:
        """How many values a sample it makes."""
        shape, _, made = self.whole
        return made * max(shape.height, 1) * shape.width

    def times_ms(self, grids: Mapping[Shape, Grid]) -> tuple[float, float]:
        """How long it takes as its pieces, and how long whole."""
        shape, read, made = self.whole
        whole = grids[shape](read, made)
        if len(self.pieces) == 1:
            return whole, whole
        return sum(grids[shape](read, made) for shape, read, made in self.pieces), whole


@dataclass(frozen=True)
class PieceCost:
    """The cost that a `PieceModel` reads off a price sheet."""

    shapes: tuple[Shape, ...]
    """Of each site's whole layer."""
    model: PieceModel

    def __call__(self, sheet: Sheet) -> Cost:
        """The predicted latency in ms, to the nanosecond; of a sheet of many networks that of each, [n]."""
        if sheet.widths.ndim == 1:
            return self._sum(features_of(layers_of(self.shapes, sheet), self.model.grids))
        return np.array([self._sum(row) for row in features_of_many(self.shapes, sheet, self.model.grids)])

    def _sum(self, features: np.ndarray) -> float:
        return round(float(features @ np.array(self.model.weights)) * self.model.scale, 6)


def features_of(layers: Sequence[Layer], grids: Mapping[Shape, Grid]) -> np.ndarray:
    """The sum of the pieces' times, how many layers there are, the values that they make in millions, and 1: [4]."""
    times = [min(layer.times_ms(grids)) for layer in layers]
    return np.array([sum(times), len(layers), sum(layer.values for layer in layers) * 1e-6, 1.0])


def features_of_many(shapes: Sequence[Shape], sheet: Sheet, grids: Mapping[Shape, Grid]) -> np.ndarray:
    """The same of each network of a sheet of many: [n, 4]. Sums are in the same order, so that they are rounded alike.

    `shapes`: of each site's whole layer.
    """
    pieces, (n, n_sites, count) = sheet.pieces, sheet.pieces.made.shape
    taps = np.broadcast_to(pieces.taps, (n, n_sites, count))
    present = np.ones((n, n_sites)) if sheet.presence is None else np.broadcast_to(sheet.presence.sites, (n, n_sites))
    time, values = np.zeros(n), np.zeros(n)
    for site, shape in enumerate(shapes):
        read, made = pieces.read[:, site], pieces.made[:, site]  # [n, n_pieces]
        parts = np.maximum((made > 0).sum(axis=1), 1)
        last = made[np.arange(n), parts - 1]
        own = _times(grids[shape], read[:, 0], last)
        split = np.flatnonzero(parts > 1)
        if len(split):
            one, few = split[0], parts[split[0]]  # the factors of a layer differ from network to network in width alone
            spread = [1.0] * few if pieces.spread is None else pieces.spread[one, site].tolist()
            summed = np.zeros(len(split))
            for k, factor in enumerate(_factors(shape, taps[one, site, :few].astype(int).tolist(), spread)):
                summed += _times(grids[factor], read[split, k], made[split, k])
            own[split] = np.minimum(summed, own[split])
        time += own * present[:, site]
        values += last * max(shape.height, 1) * shape.width * present[:, site]
    return np.stack([time, present.sum(axis=1), values * 1e-6, np.ones(n)], axis=1)


def _times(grid: Grid, read: np.ndarray, made: np.ndarray) -> np.ndarray:
    """The times of layers of one shape, which read and make so much, [n] each."""
    return np.array([grid(*widths) for widths in zip(read.tolist(), made.tolist(), strict=True)])


def layers_of(shapes: Sequence[Shape], sheet: Sheet) -> list[Layer]:
    """The layers of the network that `sheet` prices; `shapes`: of the whole ones."""
    pieces, present = sheet.pieces, sheet.presence
    reads, mades = pieces.read.tolist(), pieces.made.tolist()
    there = range(len(shapes)) if present is None else np.flatnonzero(present.sites).tolist()
    found = []
    for site in there:
        shape, read = shapes[site], reads[site]
        made = [n for n in mades[site] if n > 0] or mades[site][:1]  # those that are absent make nothing
        whole = (shape, read[0], made[-1])
        if len(made) == 1:
            found.append(Layer(site, (whole,), whole))
            continue
        taps = pieces.taps[site, : len(made)].astype(int).tolist()
        spread = [1.0] * len(made) if pieces.spread is None else pieces.spread[site].tolist()
        found.append(Layer(site, tuple(zip(_factors(shape, taps, spread), read, made, strict=False)), whole))
    return found


def shapes_of(space: NetworkSpace) -> tuple[Shape, ...]:
    """The shapes of the whole layers, a site each."""
    return tuple(_shape(space, tensor) for tensor in space.basis.terms.tensors)


def _shape(space: NetworkSpace, tensor: WeightTensor) -> Shape:
    positions = max(1, tensor.macs // tensor.size)
    if len(tensor.shape) == 2:
        return Shape((1, 1), 0, positions)
    kernel = (1, *tensor.shape[2:])[-2:]
    width = tensor.width_made or math.isqrt(positions) or 1
    groups = int(getattr(space.original.get_submodule(tensor.layers[0]), "groups", 1))
    depthwise = groups > 1 and tensor.shape[1] == 1
    return Shape((kernel[0], kernel[1]), max(1, positions // width), width, groups, depthwise)


def _factors(shape: Shape, taps: Sequence[int], spread: Sequence[float]) -> list[Shape]:
    """The shapes of the factors with so many taps, by the scheme that has them: see `search_spaces.operators.schemes`.

    The first of more than two is a 1x1 at the positions that the layer reads.
    """
    one = Shape((1, 1), shape.height, shape.width)
    if len(taps) == 2 and taps[0] == math.prod(shape.kernel):
        return [shape, one]
    wide = spread[0] if len(taps) == 2 else spread[1] if len(taps) == 4 else math.sqrt(spread[0])
    width = max(1, round(shape.width * wide))
    high = max(1, round(shape.height * spread[0] / wide))
    column, row = Shape((taps[0], 1), shape.height, width), Shape((1, taps[-1]), shape.height, shape.width)
    if len(taps) == 2:
        return [column, row]
    first = Shape((1, 1), high, width)
    if len(taps) == 3:
        return [first, shape, one]
    # Depthwise, of as many groups as there are channels: more than one.
    rows = Shape((taps[1], 1), shape.height, width, 2, depthwise=True)
    columns = Shape((1, taps[2]), shape.height, shape.width, 2, depthwise=True)
    return [first, rows, columns, one]
