"""The networks that fit in a file of so many bytes, as a space that agents search: depth, width, bits of a weight."""

from __future__ import annotations

import numpy as np

from automl.signals.shapes import HALF_BITS, Shape, file_bytes, widest
from automl.signals.signal import Signal
from search_spaces import CostedSpace, Knob, Point

DEPTHS = (1, 2, 3, 4, 5, 6)
BITS = (4, 5, 6, 7, 8)
"""Of a weight of integers on the average."""
WIDTHS = 40
"""At most so many widths are offered."""
COST = "size_bytes"


class ShapeSpace(CostedSpace):
    """Depths, widths and bits; what a file takes rises with each.

    Of float16 the cost is that of the file exactly; of integers about that, and the step between two of them is chosen
    afterwards so that the file keeps its budget.
    """

    metrics = (COST,)
    feature_names = ("order",)

    def __init__(self, signal: Signal, most: int, *, half: bool, frequencies: int = 0) -> None:
        """`most`: bytes of the file; `half`: weights are float16; else their bits are a knob."""
        self._signal, self._half, self._frequencies = signal, half, frequencies
        shape = widest(signal, most, HALF_BITS if half else BITS[0], DEPTHS[0], frequencies)
        last = max(shape.width if shape is not None else 2, 2)
        widths = tuple(sorted({round(w) for w in np.geomspace(2, last, WIDTHS)}))
        knobs = [Knob("depth", DEPTHS, unit="layers"), Knob("width", widths, unit="sines")]
        self.knobs = (*knobs, *([] if half else [Knob("bits", BITS, unit="bits")]))

    def shape(self, point: Point) -> Shape:
        """The architecture that a Point stands for."""
        bits = HALF_BITS if self._half else point["bits"]
        return Shape(point["width"], point["depth"], bits, self._frequencies)

    def cost_of_levels(self, levels: np.ndarray, metric: str) -> float:
        """The bytes of the file: [n_knobs] -> bytes."""
        depth, width, *bits = levels.tolist()
        return float(file_bytes(self._signal, Shape(width, depth, bits[0] if bits else HALF_BITS, self._frequencies)))

    def features(self) -> np.ndarray:
        """The place of each knob: [n_knobs, 1]."""
        return np.linspace(0, 1, len(self.knobs))[:, None]
