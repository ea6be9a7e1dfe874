"""`automl.encode` and `automl.decode`: a picture, a sound or an array becomes a file `.inr`, and comes back."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from automl.errors import ConfigError, DataError, ExportError
from automl.signals.encoding import Effort, Encoded, Rounding, encode_shape
from automl.signals.fitting import Tell
from automl.signals.from_start import encode_from
from automl.signals.gated import encode_gated
from automl.signals.inr_reader import Layout, as_stored, drawn, network_of
from automl.signals.latent_reader import MAGIC as LATENTS
from automl.signals.latent_reader import drawn as draw_latents
from automl.signals.latents import EncodedLatents, decode_latents, encode_latents, layout_of_latents
from automl.signals.rates import bytes_within
from automl.signals.shapes import HALF_BITS, Shape, rule
from automl.signals.signal import Signal, Values
from automl.signals.signal_files import read_signal, write_signal
from automl.signals.start_file import SUFFIX as START_SUFFIX
from automl.signals.start_file import Start, load_start
from automl.types import Say, silent
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
    budget: str | None = None,
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
    search: int = 0,
    storage: str = "sqlite:///automl.db",
    name: str | None = None,
    tell: Tell | None = None,
    say: Say = silent,
) -> Encoded | EncodedLatents:
    """Store a signal as a network within a budget, and say how well it comes back from the file.

    `source`: a file (a picture, `.wav` or `.npy`), or a picture as an array [height, width, 1 or 3] of uint8. `budget`:
    of the whole file, `0.5 bpp` or a size such as `2 KB`; with a start of latents, which take what they take, it may be
    left out. `out`: the file to write. `way`: one of `WAYS`. `width` and `depth` of the network are chosen by a rule
    where they are not given, for so many `bits` a weight; `frequencies`: of Fourier features for each axis. `start`: a
    file of `automl.learn_start`, or `.inr`, whose network is begun with; the difference from it is stored, or latents
    are, and decoding needs it again. `axes`: of an array, how many are the grid. `steps` and `rate`: of the fit.
    `search`: in how many trials the shape is searched, short fits that are recorded as the study `name` (by default
    that of the file to write) in the database `storage`, and gone on with if it is there. `tell` is told of each step
    of the last fit, `say` of each trial. Errors: `DataError`, `ConfigError`, `ExportError`, `StudyError`,
    `NotFiniteError`.
    """
    _check(out, way, bits, frequencies)
    signal = signal_of(source, axes)
    effort = Effort(steps=steps, rate=rate, seed=seed, rounding=rounding)
    learnt, given = _learnt(start), _given(width=width, depth=depth)
    most = _most(budget, signal, learnt)
    if search and (way == "l0onie" or start is not None or given):
        raise ConfigError("a search is of width and depth: it is for quantized and coin, without a shape or a start")
    encoded: Encoded | EncodedLatents
    if learnt is not None:
        encoded = _by_start(signal, learnt, most, effort, tell, plain=way == "quantized" and not (given or frequencies))
    elif way == "l0onie":
        if start is not None or width is not None or frequencies:
            raise ConfigError("l0onie chooses its width by the budget: leave width, Fourier features and start out")
        encoded = encode_gated(signal, most, effort, bits=bits, depth=depth or 3, tell=tell).encoded
    else:
        bits = HALF_BITS if way == "coin" else bits
        if search:
            shape = _searched(signal, most, effort, search, way, frequencies, storage, name or _name(out, source), say)
        else:
            shape = replace(rule(signal, most, bits, frequencies), **given)
        encoded = encode_shape(signal, shape, most, effort, start=_content(start), tell=tell)
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
        content = Path(path).read_bytes()
        shared = None if start is None else Path(start).read_bytes()
        if content[: len(LATENTS)] == LATENTS:
            layout, values = _from_latents(content, shared, size)
        else:
            network = network_of(content, shared)
            layout, values = network.layout, drawn(network, size)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot decode {path}: {error}") from error
    if out is not None:
        write_signal(values, layout, Path(out))
    return as_stored(values, layout)


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


def write_encoded(encoded: Encoded | EncodedLatents, path: Path) -> None:
    """Write the file of an encoded signal; errors: `DataError`."""
    with replacing(path, "the network of the signal", DataError) as partial:
        partial.write_bytes(encoded.content)


def _check(out: str | Path | None, way: str, bits: float, frequencies: int) -> None:
    """Refuse, before a long fit, what could not be written after it."""
    if way not in WAYS:
        raise ConfigError(f"expected a way of {', '.join(WAYS)}, got {way!r}")
    if out is not None and Path(out).suffix != SUFFIX:
        raise DataError(f"expected a file name with {SUFFIX}, got {Path(out).name}")
    if not 1 <= bits <= HALF_BITS:
        raise ConfigError(f"expected from 1 to {HALF_BITS} bits a weight, got {bits:g}")
    if frequencies < 0:
        raise ConfigError(f"expected a number of Fourier features from 0 on, got {frequencies}")


def _most(budget: str | None, signal: Signal, learnt: tuple[Start, bytes] | None) -> int:
    """The bytes that the file may take. Errors: `ConfigError`."""
    if budget is not None:
        return bytes_within(budget, signal)
    if learnt is None or learnt[0].form != "latent":
        raise ConfigError("expected a budget of the file, such as '0.5 bpp' or '2 KB'; only latents do without")
    return sys.maxsize


def _learnt(path: str | Path | None) -> tuple[Start, bytes] | None:
    """The start in a file of `automl learn-start`, and the file's content; None for another. Errors: `DataError`."""
    if path is None or Path(path).suffix != START_SUFFIX:
        return None
    return load_start(Path(path))


def _by_start(
    signal: Signal, learnt: tuple[Start, bytes], most: int, effort: Effort, tell: Tell | None, *, plain: bool
) -> Encoded | EncodedLatents:
    """The signal as a difference from a learnt start, or as latents; `plain`: nothing is asked of the network itself.

    Errors: `ConfigError`, `DataError`, `ExportError`, `NotFiniteError`.
    """
    if not plain:
        raise ConfigError("a learnt start has its own network: leave way, width, depth and Fourier features out")
    start, content = learnt
    if start.form != "latent":
        return encode_from(signal, start, content, most, effort, tell=tell)
    encoded = encode_latents(signal, start, content)
    if len(encoded.content) > most:
        raise ExportError(
            f"expected a file of at most {most} bytes, got {len(encoded.content)}: its latents have as many numbers as "
            f"the start says. Allow more, or learn a start with a shorter latent or fewer bits"
        )
    return encoded


def _from_latents(content: bytes, shared: bytes | None, size: Sequence[int] | None) -> tuple[Layout, Values]:
    """What a file of latents holds. Errors: `ValueError`."""
    if shared is None:
        raise ValueError("expected the start that it was encoded with, whose network it shares: --start FILE")
    latents = decode_latents(content, shared)
    return layout_of_latents(latents), draw_latents(latents, size)


def _content(path: str | Path | None) -> bytes | None:
    try:
        return None if path is None else Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the start {path}: {error}") from error


def _given(**options: int | None) -> dict[str, int]:
    return {name: value for name, value in options.items() if value is not None}


def _searched(
    signal: Signal,
    most: int,
    effort: Effort,
    trials: int,
    way: Way,
    frequencies: int,
    storage: str,
    name: str,
    say: Say,
) -> Shape:
    from automl.signals.shape_search import search_shape
    from automl.store import open_store

    with open_store(storage) as store:
        half = way == "coin"
        return search_shape(store, name, signal, most, effort, trials, half=half, frequencies=frequencies, say=say)


def _name(out: str | Path | None, source: str | Path | npt.NDArray[Any]) -> str:
    """What a study is called: as the file that is written or read."""
    found = out if out is not None else source
    return "signal" if isinstance(found, np.ndarray) else Path(found).stem
