"""Pictures, sounds and arrays: read, stored as the file would store them, and written."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from automl.errors import DataError
from automl.signals.inr_file import layout_of
from automl.signals.inr_reader import Layout
from automl.signals.signal import Signal
from automl.signals.signal_files import read_signal, stored_values, write_signal
from automl.signals.siren import Siren
from tests.signals.conftest import picture


def layout(signal: Signal) -> Layout:
    return layout_of(Siren(len(signal.shape), signal.channels, 2, 1), signal)


def sound(path: Path, channels: int = 2) -> np.ndarray:
    samples = np.random.default_rng(0).integers(-(2**15), 2**15, (50, channels)).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, 8000, 50, "NONE", ""))
        file.writeframes(samples.tobytes())
    return samples


def arrays() -> dict[str, tuple[np.ndarray, int | None]]:
    rng = np.random.default_rng(0)
    return {
        "volume": (rng.normal(size=(3, 4, 5)).astype(np.float32), None),
        "channels": (rng.integers(-5, 90, (6, 4, 2)).astype(np.int16), 2),
        "bytes": (rng.integers(0, 256, (9,)).astype(np.uint8), None),
        "doubles": (rng.normal(size=(4, 3)), 1),
        "same": (np.full((3, 3), 7.0), None),
    }


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_a_picture_comes_back(mode, tmp_path):
    image = Image.fromarray(picture(8, 5)).convert(mode)
    image.save(tmp_path / "a.png")
    signal = read_signal(tmp_path / "a.png")
    assert signal.kind == "image" and signal.shape == (8, 5) and signal.channels == (1 if mode == "L" else 3)
    write_signal(signal.values, layout(signal), tmp_path / "b.png")
    expected = image if mode == "L" else image.convert("RGB")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "b.png")), np.asarray(expected))
    assert np.array_equal(stored_values(signal, layout(signal), signal.values), signal.values)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_sound_comes_back(channels, tmp_path):
    samples = sound(tmp_path / "a.wav", channels)
    signal = read_signal(tmp_path / "a.wav")
    assert (signal.kind, signal.shape, signal.channels, signal.facts["rate"]) == ("audio", (50,), channels, 8000)
    write_signal(signal.values, layout(signal), tmp_path / "b.wav")
    with wave.open(str(tmp_path / "b.wav")) as file:
        assert file.getframerate() == 8000 and file.getnchannels() == channels
        assert np.array_equal(np.frombuffer(file.readframes(50), "<i2").reshape(50, channels), samples)


@pytest.mark.parametrize("name", arrays())
def test_an_array_comes_back(name, tmp_path):
    array, axes = arrays()[name]
    np.save(tmp_path / "a.npy", array)
    signal = read_signal(tmp_path / "a.npy", axes)
    assert len(signal.shape) == (axes or array.ndim) and signal.values.max() <= 1
    write_signal(signal.values, layout(signal), tmp_path / "b.npy")
    back = np.load(tmp_path / "b.npy")
    assert back.dtype == array.dtype and back.shape == array.shape
    np.testing.assert_allclose(back, array, atol=1e-6 * np.ptp(array) if array.dtype.kind == "f" else 0, rtol=1e-7)
    np.testing.assert_allclose(stored_values(signal, layout(signal), signal.values), signal.values, atol=1e-6)


def test_what_is_no_signal_is_refused(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "text.wav").write_text("no sound")
    (tmp_path / "text.npy").write_text("no array")
    Image.fromarray(np.zeros((4, 4, 4), np.uint8)).save(tmp_path / "clear.png")
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "deep.png")
    np.save(tmp_path / "words.npy", np.array(["a"]))
    np.save(tmp_path / "nan.npy", np.array([np.nan]))
    np.save(tmp_path / "deep.npy", np.zeros((3, 4, 5, 6)))
    for name, axes, told in (
        ("none.png", None, "there is none at"),
        ("text.png", None, "cannot read a picture"),
        ("text.wav", None, "cannot read a sound"),
        ("text.npy", None, "cannot read an array"),
        ("clear.png", None, "transparent"),
        ("deep.png", None, "8 bits a channel"),
        ("words.npy", None, "array of numbers"),
        ("nan.npy", None, "finite"),
        ("deep.npy", 2, "expected axes from 3 to 4"),
        ("clear.png", 2, "axes are said of arrays"),
    ):
        with pytest.raises(DataError, match=told):
            read_signal(tmp_path / name, axes)


def test_a_signal_is_written_to_files_of_its_kind(tmp_path):
    signal = Signal(np.zeros((4, 5, 3), np.float32), "image")
    for name in ("a.wav", "a.npy", "a.what", "a"):
        with pytest.raises(DataError, match="expected the name of a picture"):
            write_signal(signal.values, layout(signal), tmp_path / name)
    audio = Signal(np.zeros((4, 1), np.float32), "audio", {"rate": 8000})
    with pytest.raises(DataError, match=r"with \.wav"):
        write_signal(audio.values, layout(audio), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
