"""`automl.encode` and `automl.decode`: a picture, a sound or an array becomes a file `.inr`, and comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from automl.errors import ConfigError, DataError
from automl.signals.encoding import Effort, Encoded, Rounding, encode_shape
from automl.signals.fitting import Tell
from automl.signals.gated import encode_gated
from automl.signals.inr_reader import as_stored, drawn, read
from automl.signals.rates import bytes_within
from automl.signals.shapes import HALF_BITS, Shape, rule
from automl.signals.signal import Signal
from automl.signals.signal_files import read_signal, write_signal
from automl.util.files import replacing

SUFFIX = ".inr"
BITS = 6.0
"""Of a weight, where nothing else is said."""

Way = Literal["quantized", "coin", "l0onie"]
WAYS: dict[str, str] = {
    "quantized": "integers by an arithmetic code, trained as such (Strümpler et al. 2022)",
    "coin": "float16 (Dupont et al. 2021)",
    "l0onie": "a wide network made sparse by gates that keep to the rate (Ramirez & Gallego-Posada 2022)",
}
"""How a network becomes a file -> what that is."""


def encode(
    source: str | Path | npt.NDArray[Any],
    budget: str,
    out: str | Path | None = None,
    *,
    way: Way = "quantized",
    width: int | None = None,
    depth: int | None = None,
    bits: float = BITS,
    frequencies: int = 0,
    rounding: Rounding = "trained",
    start: str | Path | None = None,
    axes: int | None = None,
    steps: int = Effort.steps,
    rate: float = Effort.rate,
    seed: int = 0,
    tell: Tell | None = None,
) -> Encoded:
    """Store a signal as a network within a budget, and say how well it comes back from the file.

    `source`: a file (a picture, `.wav` or `.npy`), or a picture as an array [height, width, 1 or 3] of uint8. `budget`:
    of the whole file, `0.5 bpp` or a size such as `2 KB`. `out`: the file to write. `way`: one of `WAYS`. `width` and
    `depth` of the network are chosen by a rule where they are not given, for so many `bits` a weight; `frequencies`: of
    Fourier features for each axis. `start`: a file `.inr` whose network is begun with, the difference from which is
    stored, and which decoding needs again. `axes`: of an array, how many are the grid. `steps` and `rate`: of the fit.
    `tell` is told of each step. Errors: `DataError`, `ConfigError`, `ExportError`, `NotFiniteError`.
    """
    signal = signal_of(source, axes)
    effort = Effort(steps=steps, rate=rate, seed=seed, rounding=rounding)
    most = bytes_within(budget, signal)
    if way not in WAYS:
        raise ConfigError(f"expected a way of {', '.join(WAYS)}, got {way!r}")
    if way == "l0onie":
        if start is not None or width is not None or frequencies:
            raise ConfigError("l0onie chooses its width by the budget, from weights of its own: leave out the others")
        encoded = encode_gated(signal, most, effort, bits=bits, depth=depth or 3, tell=tell).encoded
    else:
        bits = HALF_BITS if way == "coin" else bits
        shape = replace(rule(signal, most, bits, frequencies), **_given(width=width, depth=depth))
        content = None if start is None else _content(Path(start))
        encoded = encode_shape(signal, shape, most, effort, start=content, tell=tell)
    if out is not None:
        write_encoded(encoded, Path(out))
    return encoded


def decode(
    path: str | Path,
    out: str | Path | None = None,
    *,
    size: Sequence[int] | None = None,
    start: str | Path | None = None,
) -> npt.NDArray[Any]:
    """The signal in a file `.inr`, in the numbers of its kind: a picture uint8 [height, width, channels], a sound int16
    [samples, channels], an array as it was.

    `out`: the file to write it to. `size`: the lengths of the axes, for another resolution. `start`: the file that this
    one is a difference from. Errors: `DataError`.
    """
    try:
        network = read(path, start)
        values = drawn(network, size)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot decode {path}: {error}") from error
    if out is not None:
        write_signal(values, network.layout, Path(out))
    return as_stored(values, network.layout)


def signal_of(source: str | Path | npt.NDArray[Any], axes: int | None = None) -> Signal:
    """The signal in a file, or a picture in memory. Errors: `DataError`."""
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] not in (1, 3):
            raise DataError(
                f"expected a picture of uint8 [height, width, 1 or 3], got {source.dtype} of shape "
                f"{list(source.shape)}. Save other arrays by numpy.save, and give the file"
            )
        return Signal(source.astype(np.float32) / np.float32(255), "image")
    return read_signal(Path(source), axes)


def write_encoded(encoded: Encoded, path: Path) -> None:
    """Write the file of an encoded signal; errors: `DataError`."""
    if path.suffix != SUFFIX:
        raise DataError(f"expected a file name with {SUFFIX}, got {path.name}")
    with replacing(path, "the network of the signal", DataError) as partial:
        partial.write_bytes(encoded.content)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the start {path}: {error}") from error


def _given(**options: int | None) -> dict[str, int]:
    return {name: value for name, value in options.items() if value is not None}


def shape_told(shape: Shape) -> str:
    """A shape for people."""
    return f"{shape.depth} layers of {shape.width} sines at {shape.bits:g} bits a weight"
