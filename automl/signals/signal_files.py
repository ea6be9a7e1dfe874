"""Files of signals: pictures, sounds (`.wav`) and arrays (`.npy`), read and written."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from automl.errors import DataError, in_a_line
from automl.signals.inr_reader import TYPES, Layout, as_stored
from automl.signals.signal import Signal, Values
from automl.util.files import replacing

SOUND, ARRAY = ".wav", ".npy"
BITS = 16
"""Of a sample of a sound."""


def read_signal(path: Path, axes: int | None = None) -> Signal:
    """The signal in a file: a sound in `.wav`, an array in `.npy`, a picture in any other that Pillow reads.

    `axes`: how many axes of an array are the grid; one more may follow, of channels. None: all are. Errors:
    `DataError`.
    """
    if axes is not None and path.suffix != ARRAY:
        raise DataError(f"axes are said of arrays in .npy files, and {path} is none. Leave them out")
    if not path.is_file():
        raise DataError(f"expected a file of a picture, a sound or an array, and there is none at {path}")
    if path.suffix == SOUND:
        return _sound(path)
    return _array(path, axes) if path.suffix == ARRAY else _picture(path)


def write_signal(values: Values, layout: Layout, path: Path) -> None:
    """Write the `values` of a signal of which `layout` says what it is; errors: `DataError`."""
    wanted = {"audio": SOUND, "array": ARRAY}.get(layout.kind)
    if (path.suffix in (SOUND, ARRAY) or wanted) and path.suffix != wanted:
        told = f"a file name with {wanted}" if wanted else "the name of a picture, such as back.png"
        raise DataError(f"expected {told} for a signal that is an {layout.kind}, got {path.name}")
    stored = as_stored(values, layout)
    with replacing(path, "the signal", DataError) as partial, partial.open("wb") as file:
        if layout.kind == "array":
            np.save(file, stored)
        elif layout.kind == "audio":
            with wave.open(file, "wb") as sound:
                sound.setparams((layout.channels, BITS // 8, int(layout.facts[0]), len(stored), "NONE", ""))
                sound.writeframes(stored.astype("<i2").tobytes())
        else:
            _write_picture(stored, path, file)


def stored_values(signal: Signal, layout: Layout, values: Values) -> Values:
    """`values` as they are once they have been written and read: what a decoded file is compared by."""
    if layout.kind == "image":
        return (np.rint(values * 255) / 255).astype(np.float32)
    if layout.kind == "audio":
        return (np.rint(values.astype(np.float64) * 65535) / 65535).astype(np.float32)
    return _scaled(as_stored(values, layout).reshape(values.shape), signal.facts["low"], signal.facts["high"])


def _picture(path: Path) -> Signal:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened)
            if picture.mode.startswith(("I", "F")):
                raise DataError(f"expected a picture of 8 bits a channel, got mode {picture.mode}. Give it as .npy")
            if picture.has_transparency_data and np.asarray(picture.convert("RGBA"))[..., 3].min() < 255:
                raise DataError(f"expected a picture without transparent pixels, got some in {path}. Flatten it")
            picture = picture.convert("L" if picture.mode in ("1", "L", "LA") else "RGB")
            values = np.asarray(picture).astype(np.float32) / np.float32(255)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError) as error:
        raise DataError(
            f"cannot read a picture in {path}: {in_a_line(error)}. Give a file that Pillow reads"
        ) from error
    return Signal(values.reshape(*values.shape[:2], -1), "image")


def _write_picture(stored: npt.NDArray[np.uint8], path: Path, file: Any) -> None:
    from PIL import Image

    form = Image.registered_extensions().get(path.suffix.lower())
    if form is None or stored.shape[-1] not in (1, 3):
        raise DataError(f"expected the name of a picture that Pillow writes, such as back.png, got {path.name}")
    Image.fromarray(stored[..., 0] if stored.shape[-1] == 1 else stored).save(file, form)


def _sound(path: Path) -> Signal:
    try:
        with wave.open(str(path), "rb") as sound:
            channels, width, rate = sound.getnchannels(), sound.getsampwidth(), sound.getframerate()
            frames = sound.readframes(sound.getnframes())
    except (OSError, wave.Error, EOFError) as error:
        raise DataError(f"cannot read a sound in {path}: {in_a_line(error)}. Give a .wav of whole numbers") from error
    if width * 8 != BITS or not frames:
        raise DataError(f"expected a sound of {BITS} bits a sample, got {8 * width} bits, {len(frames)} bytes")
    whole = np.frombuffer(frames[: len(frames) // (2 * channels) * 2 * channels], dtype="<i2").astype(np.float64)
    values = ((whole + 32768) / 65535).astype(np.float32)
    return Signal(values.reshape(-1, channels), "audio", {"rate": rate})


def _array(path: Path, axes: int | None) -> Signal:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"cannot read an array in {path}: {in_a_line(error)}. Write it by numpy.save") from error
    if not isinstance(array, np.ndarray) or array.dtype.newbyteorder("=").str[1:] not in TYPES or not array.size:
        kind = getattr(array, "dtype", type(array).__name__)
        raise DataError(f"expected an array of numbers in {path}, got {kind} of size {np.size(array)}")
    axes = array.ndim if axes is None else axes
    if not 1 <= axes <= array.ndim <= axes + 1:
        raise DataError(
            f"expected axes from {max(array.ndim - 1, 1)} to {array.ndim} of an array of shape {list(array.shape)}, "
            f"got {axes}: all axes are the grid, or all but the last, which is that of channels"
        )
    if not np.isfinite(array).all():
        raise DataError(f"expected finite numbers in {path}, got others")
    low, high = (np.float32(x) for x in (array.min(), array.max()))
    facts = {"type": TYPES.index(array.dtype.newbyteorder("=").str[1:]), "low": float(low), "high": float(high)}
    values = _scaled(array, facts["low"], facts["high"])
    return Signal(values[..., None] if axes == array.ndim else values, "array", facts)


def _scaled(array: npt.NDArray[Any], low: float, high: float) -> Values:
    """From [low, high] to [0, 1]; zeros if all are the same."""
    if high == low:
        return np.zeros(array.shape, dtype=np.float32)
    return np.clip((array.astype(np.float64) - low) / (high - low), 0, 1).astype(np.float32)
