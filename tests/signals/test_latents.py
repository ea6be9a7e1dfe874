"""Signals as latents: the code, the files, the reader in NumPy alone."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from automl.errors import DataError, ExportError
from automl.signals import latent_reader
from automl.signals.first_step import FirstStep
from automl.signals.latent_code import LatentCode
from automl.signals.latent_reader import drawn, latents_of
from automl.signals.latents import decode_latents, encode_latents, fitted, learn_latents, network_of_patch, patches_of
from automl.signals.meta import Learnt, MetaOptions, adapted_to
from automl.signals.modulations import LATENT, Modulated
from automl.signals.signal import Signal, coordinates, psnr
from automl.signals.start_file import Shape, Start, content, load_start, save_start

PATCH = (6, 5)


def picture(height: int, width: int, seed: int = 0, channels: int = 2) -> Signal:
    """Waves of one picture's own height and direction."""
    phase = np.random.default_rng(seed).uniform(0, 6, (channels, 2))
    y, x = np.mgrid[:height, :width]
    values = [0.5 + 0.3 * np.sin(0.5 * x + a) * np.cos(0.3 * y + b) for a, b in phase]
    return Signal(np.stack(values, -1).astype(np.float32), "image")


@pytest.fixture(scope="module")
def start() -> Start:
    patches = torch.cat([patches_of(picture(24, 20, seed), PATCH) for seed in range(4)])
    return learn_latents(patches, PATCH, Shape(2, 2, 12, 2, 30.0), 6, 5, MetaOptions(3, 0.1, 80, 5e-3))


@settings(max_examples=40, deadline=None)
@given(
    bits=st.integers(1, 8),
    numbers=st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=60),
    spread=st.floats(0.01, 3),
)
def test_symbols_come_back_in_no_more_bytes_than_their_bits(bits, numbers, spread):
    training = np.random.default_rng(0).normal(0.3, spread, (50, 4)).astype(np.float32)
    code = LatentCode.of(training, bits)
    symbols = code.symbols(np.array(numbers, dtype=np.float32))
    body = code.encode(symbols)
    assert (code.decode(body, len(symbols)) == symbols).all()
    assert len(body) <= code.bits_of(symbols) * len(symbols) / 8 + 0.001 * len(symbols) + 2.5
    assert (code.symbols(code.latents(symbols)) == symbols).all()


def test_levels_span_three_deviations_and_the_table_is_that_of_the_training_set():
    training = np.random.default_rng(0).normal(1, 2, (4000, 3)).astype(np.float32)
    code = LatentCode.of(training, 3)
    mean, deviation = training.mean(), training.std()
    assert code.levels[[0, -1]] == pytest.approx([mean - 3 * deviation, mean + 3 * deviation], rel=1e-5)
    counts = np.bincount(code.symbols(training).reshape(-1), minlength=8)
    assert code.frequencies / 4096 == pytest.approx(counts / counts.sum(), abs=0.002)
    far = code.symbols(np.array([-99, 99], dtype=np.float32))
    assert far.tolist() == [0, 7]
    narrow = LatentCode.of(np.zeros((9, 2), dtype=np.float32), 4)  # all the same: still every level can be told
    assert narrow.frequencies.min() >= 1


def test_other_bytes_are_no_symbols():
    code = LatentCode.of(np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32), 4)
    body = code.encode(np.arange(16))
    for wrong, count in ((body[:-1], 16), (body + b"\1", 16), (body, 15), (b"", 3)):
        with pytest.raises(ValueError, match="not those of"):
            code.decode(wrong, count)


def test_patches_cover_a_signal_and_repeat_its_edge():
    signal = picture(8, 7)
    patches = patches_of(signal, PATCH).numpy().reshape(4, 6, 5, 2)
    assert (patches[0] == signal.values[:6, :5]).all() and (patches[2, :2] == signal.values[6:8, :5]).all()
    assert (patches[3, 2:] == signal.values[7, 5:].tolist() + 3 * [signal.values[7, 6].tolist()]).all()


@pytest.mark.parametrize("size", [(6, 5), (8, 7), (13, 3)])
def test_a_file_gives_back_what_was_evaluated(start, size):
    signal, shared = picture(*size, seed=9), content(start)
    encoded = encode_latents(signal, start, shared)
    assert encoded.content == encode_latents(signal, start, shared).content
    latents = decode_latents(encoded.content, shared)
    assert latents.shape == size and len(encoded.content) * 8 < encoded.latent_bits + 8 * 26
    values = drawn(latents)
    assert (values == drawn(latents_of(encoded.content, shared))).all()
    assert psnr(values, signal.values) > psnr(np.full_like(values, 0.5), signal.values) + 1.5
    network, first = network_of_patch(latents, 0), values[:6, :5]
    own = network(coordinates(PATCH)).clamp(0, 1).detach().numpy().reshape(6, 5, 2)[: size[0], : size[1]]
    np.testing.assert_allclose(first, own, atol=1e-5)


def test_a_signal_is_drawn_at_any_size(start):
    shared = content(start)
    latents = decode_latents(encode_latents(picture(12, 10), start, shared).content, shared)
    large = drawn(latents, (23, 19))
    np.testing.assert_allclose(large[::2, ::2], drawn(latents), atol=1e-5)
    assert drawn(latents, (1, 4)).shape == (1, 4, 2)
    with pytest.raises(ValueError, match="size of 2 axes"):
        drawn(latents, (4,))


def test_quantised_latents_are_those_that_are_drawn(start):
    signal, shared = picture(6, 5), content(start)
    latents = decode_latents(encode_latents(signal, start, shared).content, shared)
    assert start.code is not None
    exact = start.code.latents(start.code.symbols(fitted(start, patches_of(signal, PATCH))))[0]
    shift = start.shared["latent_to_shifts"].double() @ torch.from_numpy(exact).double()
    expected = (start.shared["layers.0.bias"].double() + shift[:12]).float()
    assert torch.equal(torch.from_numpy(latents.biases[0][0]), expected)


def test_damaged_foreign_and_mismatched_files_are_said_in_one_sentence(start):
    shared = content(start)
    whole = encode_latents(picture(8, 7), start, shared).content
    other = content(Start(start.form, start.shape, start.shared, start.rates, {}, start.code, (5, 6)))
    for place in range(len(whole)):
        with pytest.raises(ExportError):
            decode_latents(whole[:place], shared)
    for wrong, beside in ((b"PK" + whole, shared), (whole, other), (whole, b"no start"), (b"", shared)):
        with pytest.raises(ExportError, match=r"cannot read the latents: .*Encode again"):
            decode_latents(wrong, beside)
    with pytest.raises(DataError, match="of 2 channels"):
        encode_latents(picture(8, 7, channels=3), start, shared)
    with pytest.raises(DataError, match="of 2 axes"):
        encode_latents(Signal(np.zeros((9, 2), np.float32), "audio", {"rate": 8000}), start, shared)


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 20_000), byte=st.integers(0, 255), cut=st.booleans())
def test_a_start_that_was_changed_is_a_start_or_an_error(start, tmp_path_factory, place, byte, cut):
    whole = bytearray(content(start))
    if cut:
        del whole[place % len(whole) :]
    else:
        whole[place % len(whole)] = byte
    path = tmp_path_factory.mktemp("changed") / "start.npz"
    path.write_bytes(bytes(whole))
    try:
        found, _ = load_start(path)
    except DataError as error:
        assert "learn it again" in str(error).lower()
    else:
        assert found.shape == start.shape and found.patch == PATCH


def test_a_start_comes_back_from_its_file(start, tmp_path):
    path = tmp_path / "start.npz"
    name = save_start(start, path)
    found, body = load_start(path)
    assert hashlib.sha256(body).hexdigest() == name and content(found) == content(start) == path.read_bytes()
    assert found.shape == start.shape and found.patch == PATCH
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError, match="start that `automl learn-start` wrote"):
        load_start(path)
    np.savez(path, x=np.zeros(3))
    with pytest.raises(DataError, match="start that `automl learn-start` wrote"):
        load_start(path)
    np.savez(path, about=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="start that `automl learn-start` wrote"):
        load_start(path)


def test_the_reader_works_by_itself(start, tmp_path):
    signal = picture(8, 7)
    shared = content(start)
    encoded = encode_latents(signal, start, shared)
    for name, body in (("a.inr", encoded.content), ("start.npz", shared), ("reader.py", source())):
        (tmp_path / name).write_bytes(body)
    program = (
        "import runpy, sys; sys.modules['torch'] = sys.modules['automl'] = None; "
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    run = [sys.executable, "-c", program, "reader.py", "a.inr", "start.npz", "out.npy"]
    subprocess.run(run, cwd=tmp_path, check=True)
    assert (np.load(tmp_path / "out.npy") == drawn(decode_latents(encoded.content, shared))).all()


def source() -> bytes:
    return Path(latent_reader.__file__).read_bytes()


@pytest.mark.parametrize("learnt_rates", [True, False])
def test_the_first_step_is_one_linear_map_of_the_values(start, learnt_rates):
    rates = torch.rand(3, 6) if learnt_rates else torch.tensor([0.1, 0.2, 0.05])
    start = replace(start, rates={LATENT: rates})
    patches = torch.cat([patches_of(picture(24, 20, seed), PATCH) for seed in range(2)])
    form = Modulated(start.shape.network(), 6)
    one = adapted_to(form, Learnt(start.shared, {LATENT: rates[:1]}), coordinates(PATCH), patches)[LATENT]
    torch.testing.assert_close(FirstStep.of(start)(patches), one, rtol=1e-4, atol=1e-5)
    every = adapted_to(form, Learnt(start.shared, {LATENT: rates}), coordinates(PATCH), patches)[LATENT]
    np.testing.assert_allclose(fitted(start, patches), every, rtol=1e-3, atol=1e-4)
    alone = np.concatenate([fitted(start, patch[None]) for patch in patches])  # few: one by one
    np.testing.assert_allclose(alone, every, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("count", [600, 900, 5000, 20_000])
@pytest.mark.parametrize("bits", [1, 7])
def test_long_streams_come_back_and_waste_no_bytes(count, bits):
    random = np.random.default_rng(count)
    code = LatentCode.of(random.normal(size=(50, 40)).astype(np.float32), bits)
    symbols = code.symbols(random.normal(size=count).astype(np.float32))
    body = code.encode(symbols)
    assert (code.decode(body, count) == symbols).all()
    assert len(body) <= code.bits_of(symbols) * count / 8 + 4
    for wrong in (body[:-1], body[1:], body + b"\1", body[:256] + body, body[256:]):
        with pytest.raises(ValueError, match="not those of"):
            code.decode(wrong, count)
