"""Which network fits in so many bytes: its width and depth, and the bits of its weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

from automl.errors import ConfigError
from automl.signals.inr_file import header, layout_of
from automl.signals.signal import Signal
from automl.signals.siren import FourierFeatures, Siren, parameters_of

HALF_BITS = 16
"""Of a weight in float16."""
FEW_WEIGHTS = 1500
"""Below that a network has three layers, and sines of a lower frequency. A photograph of 256 pixels at 2048 bytes came
a decibel nearer with 4 x 28 sines of frequency 20 than with 3 x 34 of frequency 15 (one picture, one seed)."""
BEFORE = 6
"""Bytes of a file before its header: what it is, and a checksum."""


@dataclass(frozen=True)
class Shape:
    """An architecture, and how many bits its weights are to take."""

    width: int
    depth: int
    bits: float = 6.0
    """Of a weight in the file on the average; 16: float16."""
    frequencies: int = 0
    """Of Fourier features, for each axis; 0 for none."""

    def parameters(self, axes: int, channels: int) -> int:
        """How many weights and biases that is."""
        return parameters_of(axes * (2 * self.frequencies or 1), channels, self.width, self.depth)


def widest(signal: Signal, most: int, bits: float, depth: int, frequencies: int = 0) -> Shape | None:
    """The widest network of `depth` whose file takes about `most` bytes at so many bits a weight; exactly of float16.

    None if not even one of a single sine fits.
    """
    found = None
    for width in range(1, 4097):
        shape = Shape(width, depth, bits, frequencies)
        if file_bytes(signal, shape) > most:
            return found
        found = shape
    return found


def file_bytes(signal: Signal, shape: Shape) -> int:
    """What the file of such a network takes: exactly of float16, else about so much."""
    steps = 0 if shape.bits == HALF_BITS else 2 * (shape.depth + 1)
    weights = shape.parameters(len(signal.shape), signal.channels)
    return fixed_bytes(signal, shape) + steps + -(-int(shape.bits * weights) // 8)


def fixed_bytes(signal: Signal, shape: Shape) -> int:
    """What stands before the steps and weights in such a file."""
    axes = len(signal.shape)
    features = FourierFeatures(axes, shape.frequencies) if shape.frequencies else None
    layout = layout_of(Siren(axes, signal.channels, 1, 1, features=features), signal)
    return BEFORE + len(header(replace(layout, width=shape.width, depth=shape.depth)))


def rule(signal: Signal, most: int, bits: float, frequencies: int = 0) -> Shape:
    """The shape that is taken where none is searched: three layers of sines, or four if there is room for more than
    some hundred weights. Errors: `ConfigError` if nothing fits."""
    depth = 3 if 8 * most / bits < FEW_WEIGHTS else 4
    for layers in range(depth, 0, -1):
        if (shape := widest(signal, most, bits, layers, frequencies)) is not None and shape.width > layers:
            return shape
    if shape is None:
        raise ConfigError(f"expected room for a network, got {most} bytes. Allow more")
    return shape


def frequency(parameters: int) -> int:
    """The w0 of a network with so many weights, where nobody says it."""
    return 15 if parameters < FEW_WEIGHTS else 20
