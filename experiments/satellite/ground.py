"""Draws made-up ground as a satellite sees it from above, and where its buildings stand.

All of it is synthetic. A *block* is a square of ground of one kind: open land, a village, a town or sheds. Buildings
are rectangles or L-shapes with pitched or flat roofs, and cast shadows away from the sun. What is easily taken for them
is clutter: roads, paved yards and tarpaulins in the colours of roofs, cars, trees that cast shadows and hide roofs in
part. The picture is blurred by the optics, dimmed by haze and has the sensor's noise. Buildings stand whole within
their block, so that a scene is blocks side by side and is drawn one at a time, in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BLOCK = 500
"""Pixels along each side of a scene's blocks."""
KINDS = ("open", "village", "town", "sheds")
SHARES = (0.55, 0.2, 0.2, 0.05)
"""How much of a scene is of each kind."""
_PITCH_M = {"village": 45.0, "town": 27.0, "sheds": 75.0}
_BUILT = {"village": 0.45, "town": 0.8, "sheds": 0.7}
"""The part of the plots that have a building."""
_ROOFS = np.array([[0.55, 0.3, 0.24], [0.5, 0.5, 0.52], [0.75, 0.74, 0.72], [0.35, 0.33, 0.33], [0.6, 0.42, 0.32]])
_GROUNDS = np.array([[0.3, 0.4, 0.22], [0.42, 0.44, 0.26], [0.5, 0.43, 0.32], [0.24, 0.33, 0.2]])
_ASPHALT = np.array([0.4, 0.4, 0.42])
_TREE = np.array([0.14, 0.24, 0.12])


@dataclass(frozen=True)
class Ground:
    """A block as it is seen, and as it is."""

    picture: np.ndarray
    """[side, side, 3] uint8."""
    buildings: np.ndarray
    """[side, side] int32: the number of the building at each pixel, counted from 1; 0: none."""


@dataclass(frozen=True)
class _Shape:
    """A rectangle, perhaps without one corner; lengths in pixels."""

    y: float
    x: float
    half: tuple[float, float]
    angle: float
    notch: bool = False

    def box(self, reach: float, side: int) -> tuple[slice, slice]:
        """The rows and columns within `reach` pixels beyond the shape."""
        radius = float(np.hypot(*self.half)) + reach
        middle = np.array([self.y, self.x])
        low, high = (
            np.clip(middle - radius, 0, side).astype(int),
            np.ceil(np.clip(middle + radius, 0, side)).astype(int),
        )
        return slice(low[0], high[0]), slice(low[1], high[1])

    def inside(self, box: tuple[slice, slice], dy: float = 0.0, dx: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """Which pixels of a box are in the shape moved by (dy, dx), [h, w] bool, and how far across it they are."""
        rows = np.arange(box[0].start, box[0].stop)[:, None] + 0.5 - self.y - dy
        columns = np.arange(box[1].start, box[1].stop)[None] + 0.5 - self.x - dx
        along = columns * np.cos(self.angle) + rows * np.sin(self.angle)
        across = rows * np.cos(self.angle) - columns * np.sin(self.angle)
        found = (np.abs(along) < self.half[0]) & (np.abs(across) < self.half[1])
        if self.notch:
            found &= ~((along > 0.1 * self.half[0]) & (across > 0.1 * self.half[1]))
        return found, across


def block(seed: int | Sequence[int], metres: float = 0.5, side: int = BLOCK, kind: str | None = None) -> Ground:
    """The block that `seed` draws, `side` pixels of `metres` each along a side; of a kind by chance unless told."""
    rng = np.random.default_rng(seed)
    kind = kind or str(rng.choice(KINDS, p=SHARES))
    picture = _land(rng, side)
    sun, low = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.3)
    light = np.array([np.sin(sun), np.cos(sun)]) * low / metres
    """By how many pixels a shadow is moved for each metre of height."""
    angle = rng.uniform(0, np.pi / 2)
    _roads(rng, picture, angle, metres, kind)
    buildings = np.zeros((side, side), dtype=np.int32)
    shapes, roofs = _plots(rng, picture, angle, metres, kind)
    shaded = np.zeros((side, side), dtype=bool)
    heights = rng.uniform(3, 11 if kind == "town" else 7, len(shapes))
    for shape, height in zip(shapes, heights, strict=True):
        _shadow(shaded, shape, light * height)
    picture[shaded] *= 0.45
    for number, (shape, roof) in enumerate(zip(shapes, roofs, strict=True), 1):
        box = shape.box(1, side)
        found, across = shape.inside(box)
        pitched = np.where(across > 0, 1.12, 0.85) if rng.random() < 0.6 else np.ones_like(across)
        grain = 1 + 0.05 * rng.standard_normal(found.shape)
        picture[box][found] = (roof * (pitched * grain)[..., None])[found]
        buildings[box][found] = number
    _trees(rng, picture, metres, light, {"open": 12, "village": 40, "town": 25, "sheds": 6}[kind])
    return Ground(_seen(rng, picture), buildings)


def _land(rng: np.random.Generator, side: int) -> np.ndarray:
    """Fields in two colours, with patches of several sizes and furrows: [side, side, 3]."""
    colours = _GROUNDS[rng.choice(len(_GROUNDS), 2)] * rng.uniform(0.8, 1.2)
    where = 1 / (1 + np.exp(-6 * _patches(rng, side, 4)))
    land = colours[0] * where[..., None] + colours[1] * (1 - where[..., None])
    rows, columns = np.mgrid[:side, :side]
    turn = rng.uniform(0, np.pi)
    furrows = np.sin((rows * np.cos(turn) + columns * np.sin(turn)) * 2 * np.pi / rng.uniform(5, 14))
    rough = 0.08 * _patches(rng, side, side // 12) + 0.05 * _patches(rng, side, side // 4)
    scaled: np.ndarray = land * (1 + rough + 0.04 * furrows * rng.integers(0, 2))[..., None]
    return scaled


def _patches(rng: np.random.Generator, side: int, count: int) -> np.ndarray:
    """Smooth noise of so many patches along each side: [side, side]."""
    count = max(2, count)
    at = np.linspace(0, count - 1.001, side)
    left = at.astype(int)
    spread = np.zeros((side, count))
    spread[np.arange(side), left], spread[np.arange(side), left + 1] = 1 - (at - left), at - left
    noise: np.ndarray = spread @ rng.standard_normal((count, count)) @ spread.T
    return noise


def _roads(rng: np.random.Generator, picture: np.ndarray, angle: float, metres: float, kind: str) -> None:
    """Draw roads along and across the block, with cars on them."""
    side = len(picture)
    for number in range(rng.integers(0, 2) if kind == "open" else rng.integers(1, 4)):
        turn = angle + (number % 2) * np.pi / 2
        middle, half = rng.uniform(0.1, 0.9, 2) * side, rng.uniform(2, 4) / metres
        road = _Shape(middle[0], middle[1], (2.0 * side, half), turn)
        found, _ = road.inside((slice(0, side), slice(0, side)))
        picture[found] = _ASPHALT * rng.uniform(0.8, 1.2)
        for along in rng.uniform(-side, side, rng.poisson(12)):
            y, x = middle + along * np.array([np.sin(turn), np.cos(turn)])
            _paint(picture, _Shape(y, x, (2.2 / metres, 0.9 / metres), turn), rng.uniform(0.1, 0.9, 3))


def _plots(
    rng: np.random.Generator, picture: np.ndarray, angle: float, metres: float, kind: str
) -> tuple[list[_Shape], list[np.ndarray]]:
    """Buildings on plots in rows, each within its own, and their roofs' colours; other plots get clutter."""
    side, shapes, roofs = len(picture), [], []
    pitch = _PITCH_M.get(kind, 60.0) / metres
    count = int(side / pitch) + 2
    for row in range(-count, count + 1):
        for column in range(-count, count + 1):
            y, x = side / 2 + pitch * (
                row * np.array([np.cos(angle), np.sin(angle)]) + column * np.array([-np.sin(angle), np.cos(angle)])
            )
            half = pitch * rng.uniform(0.17, 0.36), pitch * rng.uniform(0.15, 0.33)
            y, x = np.array([y, x]) + rng.uniform(-0.06, 0.06, 2) * pitch
            shape = _Shape(float(y), float(x), half, angle + rng.choice([0, np.pi / 2]) + rng.normal(0, 0.03))
            if not (shape.box(2, 10**9) and min(y, x) > np.hypot(*half) + 1 and max(y, x) < side - np.hypot(*half) - 1):
                continue
            colour = _ROOFS[rng.integers(len(_ROOFS))] * rng.uniform(0.75, 1.2)
            if kind != "open" and rng.random() < _BUILT[kind]:
                shapes.append(_Shape(shape.y, shape.x, half, shape.angle, rng.random() < 0.3))
                roofs.append(colour)
            elif rng.random() < 0.25:  # a yard, a tarpaulin, a court: flat, and of a roof's colour
                _paint(picture, _Shape(shape.y, shape.x, (half[0], half[1] * 0.8), shape.angle), colour)
    return shapes, roofs


def _paint(picture: np.ndarray, shape: _Shape, colour: np.ndarray) -> None:
    box = shape.box(1, len(picture))
    picture[box][shape.inside(box)[0]] = colour


def _shadow(shaded: np.ndarray, shape: _Shape, reach: np.ndarray) -> None:
    """Mark what lies between a shape and itself moved by `reach` pixels, [2]: rows and columns."""
    length = float(np.hypot(*reach))
    box = shape.box(length + 1, len(shaded))
    for part in np.linspace(0, 1, max(2, int(length / min(shape.half)) * 3 + 2)):
        shaded[box] |= shape.inside(box, *(part * reach))[0]


def _trees(rng: np.random.Generator, picture: np.ndarray, metres: float, light: np.ndarray, a_hectare: float) -> None:
    """Draw trees and their shadows, over whatever is there."""
    side = len(picture)
    for _ in range(rng.poisson(a_hectare * (side * metres / 100) ** 2 * rng.uniform(0.3, 1))):
        y, x = rng.uniform(0, side, 2)
        radius, height = rng.uniform(1.5, 4) / metres, rng.uniform(3, 8)
        for (dy, dx), dark in ((light * height * 0.6, True), (np.zeros(2), False)):
            box = _Shape(y + dy, x + dx, (radius, radius), 0).box(1, side)
            rows = np.arange(box[0].start, box[0].stop)[:, None] + 0.5 - y - dy
            columns = np.arange(box[1].start, box[1].stop)[None] + 0.5 - x - dx
            crown = np.hypot(rows, columns) < radius * (1 + 0.15 * rng.standard_normal())
            part = picture[box]
            part[crown] = part[crown] * 0.5 if dark else _TREE * (1 + 0.25 * rng.standard_normal((crown.sum(), 1)))


def _seen(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """The picture through haze, optics and sensor: [side, side, 3] uint8."""
    padded = np.pad(picture, ((1, 1), (1, 1), (0, 0)), mode="edge")
    padded = 0.2 * padded[:-2] + 0.6 * padded[1:-1] + 0.2 * padded[2:]
    blurred = 0.2 * padded[:, :-2] + 0.6 * padded[:, 1:-1] + 0.2 * padded[:, 2:]
    hazy = rng.uniform(0.75, 1.05) * blurred + rng.uniform(0.0, 0.1)
    noisy = hazy + 0.02 * rng.standard_normal(hazy.shape)
    return (noisy.clip(0, 1) * 255 + 0.5).astype(np.uint8)
