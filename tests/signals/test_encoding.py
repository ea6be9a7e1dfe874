"""Signals as files: within their budgets, and worth what is said of them once they are read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import automl
from automl.errors import ConfigError, DataError, ExportError
from automl.signals.encode_file import signal_of
from automl.signals.encoding import Effort, encode_shape
from automl.signals.fitting import fit, squared_error
from automl.signals.gated import density_within, encode_gated
from automl.signals.inr_file import half_file, layout_of, set_tensors, siren_of, tensors_of
from automl.signals.inr_reader import network_of, step_of
from automl.signals.quantizing import Grid, file_of, grid_within, relative_steps
from automl.signals.rates import bytes_within
from automl.signals.shapes import Shape, file_bytes, rule, widest
from automl.signals.signal import psnr, psnr_of_error
from automl.signals.siren import Siren
from automl.signals.tuned_rounding import tune_rounding
from tests.signals.conftest import picture

QUICK = Effort(steps=160)


@pytest.fixture(scope="module")
def fitted():
    """A picture, a network fitted to it, and the content of its weights."""
    torch.manual_seed(0)
    signal, siren = signal_of(picture()), Siren(2, 3, 10, 2)
    fit(siren, signal, 150, 1e-2)
    return signal, siren, [tensor.clone() for tensor in tensors_of(siren)]


def test_budgets_are_bits_a_point_or_bytes():
    signal = signal_of(picture())
    assert bytes_within("0.5 bpp", signal) == 24 * 24 // 16
    assert [bytes_within(text, signal) for text in ("600 B", "2 KB", "<= .5 MB", "7bytes")] == [600, 2000, 500_000, 7]
    for text in ("", "half", "0 B", "3", "3 GBP", "-1 KB"):
        with pytest.raises(ConfigError, match="expected a budget such as"):
            bytes_within(text, signal)


def test_the_widest_network_fills_a_budget_exactly_in_float16():
    signal = signal_of(picture())
    for most in (300, 800, 2000):
        shape = widest(signal, most, 16, 2)
        siren = Siren(2, 3, shape.width, shape.depth)
        content = half_file(layout_of(siren, signal, coded=False), tensors_of(siren))
        assert len(content) == file_bytes(signal, shape) <= most
        assert file_bytes(signal, Shape(shape.width + 1, 2, 16)) > most
    assert widest(signal, 20, 16, 2) is None
    with pytest.raises(ConfigError, match="room for a network"):
        rule(signal, 20, 6)


def test_steps_do_equal_harm(fitted):
    signal, siren, own = fitted
    steps = relative_steps(siren, signal)
    before = siren(torch.rand(500, 2) * 2 - 1)
    harms = []
    for number, step in enumerate(steps):
        harm = 0.0
        for seed in range(6):
            torch.manual_seed(seed)
            places = torch.rand(500, 2) * 2 - 1
            set_tensors(siren, own)
            before = siren(places).detach()
            moved = [t.clone() for t in own]
            moved[number] += 0.02 * step * (torch.rand(moved[number].shape) - 0.5)
            set_tensors(siren, moved)
            harm += float((siren(places).detach() - before).square().mean()) / own[number].numel()
        harms.append(harm)
    set_tensors(siren, own)
    assert max(harms) < 5 * min(harms)


def test_the_grid_fills_the_file_and_no_more(fitted):
    signal, siren, _ = fitted
    layout, relative = layout_of(siren, signal), relative_steps(siren, signal)
    errors = []
    for most in (80, 120, 160, 240):
        grid = grid_within(siren, layout, relative, most, ())
        assert 0.93 * most < len(file_of(siren, layout, grid)) <= most
        errors.append(squared_error(siren, signal, through=grid.through))
    assert errors == sorted(errors, reverse=True)
    with pytest.raises(ExportError, match="room for the header"):
        grid_within(siren, layout, relative, 19, ())


def test_gradients_go_straight_through_a_grid(fitted):
    _, siren, own = fitted
    grid = Grid(bytes([120] * len(own)))
    named = {name: p.detach().clone().requires_grad_() for name, p in siren.named_parameters()}
    through = grid.through(named)
    for (name, p), q in zip(named.items(), grid.rounded(own), strict=True):
        assert torch.equal(through[name], q)
        assert torch.equal((q / step_of(120)).round() * step_of(120), q)
        through[name].sum().backward()
        assert torch.equal(p.grad, torch.ones_like(p))


def test_tuned_rounding_goes_up_or_down_and_is_never_worse(fitted):
    signal, siren, own = fitted
    grid = grid_within(siren, layout_of(siren, signal), relative_steps(siren, signal), 110, ())
    nearest = squared_error(siren, signal, through=grid.through)
    error = tune_rounding(siren, signal, grid, 300)
    found = [tensor.clone() for tensor in tensors_of(siren)]
    assert error == pytest.approx(squared_error(siren, signal)) and error < 0.98 * nearest
    for before, after, byte in zip(own, found, grid.steps, strict=True):
        assert (before - after).abs().max() < step_of(byte) * 1.001
    set_tensors(siren, own)


@pytest.mark.parametrize("rounding", ["nearest", "adaround", "trained", "both"])
def test_a_file_is_within_its_bytes_and_as_good_as_said(rounding):
    signal = signal_of(picture())
    encoded = encode_shape(signal, Shape(10, 2), 150, Effort(steps=160, rounding=rounding))
    assert 0.9 * 150 < len(encoded.content) <= 150
    network = network_of(encoded.content)
    siren = siren_of(network.layout)
    set_tensors(siren, network.tensors)
    assert encoded.psnr == pytest.approx(psnr_of_error(squared_error(siren, signal)), abs=0.3)
    assert encoded.psnr > 15 and 0 < encoded.ssim < 1
    assert encoded.bpp == 8 * len(encoded.content) / 24**2


def test_training_on_the_grid_beats_the_nearest_numbers():
    signal = signal_of(picture())
    found = [
        encode_shape(signal, Shape(10, 2), 110, Effort(steps=300, rounding=r)).psnr for r in ("nearest", "trained")
    ]
    assert found[1] > found[0] + 0.5


def test_a_difference_from_a_start_is_smaller_than_the_whole(tmp_path):
    signal = signal_of(picture())
    first = encode_shape(signal, Shape(10, 2, 16), 10_000, Effort(steps=300))
    other = signal_of(np.clip(picture().astype(int) + 6, 0, 255).astype(np.uint8))
    alone = encode_shape(other, Shape(10, 2), 70, QUICK)
    differing = encode_shape(other, Shape(1, 1), 70, QUICK, start=first.content)
    assert len(differing.content) <= 70 and differing.psnr > alone.psnr + 3
    with pytest.raises(ValueError, match="expected the start"):
        network_of(differing.content)


@pytest.mark.parametrize("most", [200, 420])
def test_gates_meet_a_rate_without_a_search(most):
    sparse = encode_gated(signal_of(picture()), most, QUICK)
    assert 0.9 * most < len(sparse.encoded.content) <= most
    assert 0.1 < sparse.density < 0.8 and 0 < sparse.mask_bytes < most / 2


def test_the_density_is_what_fills_a_file():
    part = density_within(900, 1000, 500, 6)
    marks = -(part * np.log2(part) + (1 - part) * np.log2(1 - part))
    assert 900 - 1000 * 6 / 8 + 1000 * (part * 6 + marks) / 8 == pytest.approx(500, abs=1)


def test_encode_and_decode(photo, tmp_path):
    for way in ("quantized", "coin", "l0onie"):
        out, back = tmp_path / f"{way}.inr", tmp_path / f"{way}.png"
        encoded = automl.encode(photo, "300 B", out, way=way, steps=120)
        assert out.read_bytes() == encoded.content and len(encoded.content) <= 300
        found = automl.decode(out, back)
        assert np.array_equal(np.asarray(Image.open(back)), found)
        assert psnr(found / 255, picture() / 255) == pytest.approx(encoded.psnr, abs=1e-4)
        assert automl.decode(out, size=(40, 30)).shape == (40, 30, 3)


def test_one_seed_gives_one_file(photo):
    found = [automl.encode(photo, "200 B", steps=60, seed=seed).content for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(("kind", "shape", "axes"), [("volume", (6, 7, 8), None), ("channels", (90, 2), 1)])
def test_arrays_are_signals_too(kind, shape, axes, tmp_path):
    rng = np.random.default_rng(0)
    array = np.cumsum(rng.normal(size=shape), 0).astype(np.float32)
    np.save(tmp_path / "a.npy", array)
    encoded = automl.encode(tmp_path / "a.npy", "600 B", tmp_path / "a.inr", axes=axes, steps=100)
    back = automl.decode(tmp_path / "a.inr")
    assert back.shape == array.shape and back.dtype == np.float32 and len(encoded.content) <= 600
    error = np.mean((back - array) ** 2) / np.ptp(array) ** 2
    assert encoded.psnr == pytest.approx(psnr_of_error(error), abs=1e-3)


def test_what_cannot_be_is_refused_in_a_sentence(photo, tmp_path):
    (tmp_path / "no.inr").write_bytes(b"something else")
    with pytest.raises(DataError, match=r"cannot decode .*expected a file of a network"):
        automl.decode(tmp_path / "no.inr")
    with pytest.raises(DataError, match="cannot decode"):
        automl.decode(tmp_path / "nothing.inr")
    with pytest.raises(ConfigError, match="expected a way of"):
        automl.encode(photo, "200 B", way="zip")
    with pytest.raises(ConfigError, match="chooses its width"):
        automl.encode(photo, "200 B", way="l0onie", width=3)
    with pytest.raises(ExportError, match="Take a narrower network"):
        automl.encode(photo, "200 B", way="coin", width=30, steps=1)
    with pytest.raises(DataError, match=r"file name with \.inr"):
        automl.encode(photo, "200 B", tmp_path / "a.png", steps=1)
    with pytest.raises(ConfigError, match="from 1 to 16 bits"):
        automl.encode(photo, "200 B", bits=0)
    with pytest.raises(ConfigError, match="Fourier features from 0"):
        automl.encode(photo, "200 B", frequencies=-1)
    with pytest.raises(DataError, match="uint8"):
        automl.encode(np.zeros((4, 4)), "200 B")
