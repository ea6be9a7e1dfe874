"""A start learnt from a folder, signals encoded by it and decoded again, through files and the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import automl
from automl.errors import ConfigError, DataError, ExportError
from automl.signals.from_start import adapted
from automl.signals.inr_reader import drawn, network_of, start_of
from automl.signals.learning import learn_start, training_set
from automl.signals.signal import coordinates, psnr
from automl.signals.signal_files import read_signal
from automl.signals.start_file import load_start
from tests.cli.conftest import automl as command

FORMS = ("whole", "sparse", "gated", "latent")


def draw(path: Path, height: int = 16, width: int = 24, seed: int = 0) -> None:
    """A picture of soft waves."""
    phase = np.random.default_rng(seed).uniform(0, 6, (3, 2))
    y, x = np.mgrid[:height, :width]
    values = np.stack([0.5 + 0.4 * np.sin(0.5 * x + a) * np.cos(0.4 * y + b) for a, b in phase], -1)
    Image.fromarray(np.uint8(np.rint(values * 255))).save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Pictures, and a start of each form learnt from their pieces."""
    folder = tmp_path_factory.mktemp("signals")
    (folder / "seen").mkdir()
    for seed in range(4):
        draw(folder / "seen" / f"{seed}.png", seed=seed)
    draw(folder / "new.png", 8, 8, seed=9)
    for form in FORMS:
        learn_start(folder / "seen", folder / f"{form}.npz", form=form, patch=8, width=10, depth=2, steps=60, rounds=3)
    return folder


@pytest.mark.parametrize("form", FORMS[:3])
def test_a_signal_is_what_it_differs_by_from_its_start(folder, form, tmp_path):
    out, shared = tmp_path / "new.inr", folder / f"{form}.npz"
    encoded = automl.encode(folder / "new.png", "120 B", out, start=shared, steps=60)
    signal, (start, _) = read_signal(folder / "new.png"), load_start(shared)
    before = start.network()(coordinates(signal.shape)).detach().clamp(0, 1).reshape(8, 8, 3)
    assert len(out.read_bytes()) <= 120 and encoded.psnr > psnr(before, signal.values) + 0.5
    back = automl.decode(out, tmp_path / "back.png", start=shared)
    assert (back == np.rint(drawn(network_of(out.read_bytes(), shared.read_bytes())) * 255)).all()
    first, _ = start_of(shared.read_bytes())
    differ = [a != b for a, b in zip(encoded.network.tensors, first, strict=True)]
    numbers = sum(tensor.size for tensor in first)
    if form == "gated":
        assert 0 < sum(int(there.sum()) for there in differ) <= round(start.density * numbers)
    if form == "sparse":
        masks = [start.masks.get(name) for name, _ in start.network().named_parameters()]
        assert all(
            not there[mask.numpy() == 0].any() for there, mask in zip(differ, masks, strict=True) if mask is not None
        )
    with pytest.raises(DataError, match="SHA-256"):
        automl.decode(out, start=folder / f"{'sparse' if form == 'whole' else 'whole'}.npz")
    with pytest.raises(DataError, match="start that this file is a difference from"):
        automl.decode(out)


def test_what_a_sparse_start_lacks_takes_no_bytes(folder):
    """The same network and the same weights, told where they are not, and as a difference that may be anywhere."""
    from automl.signals.inr_file import integer_file, layout_of, tensors_of
    from automl.signals.quantizing import Grid, file_of

    signal, (start, _) = read_signal(folder / "new.png"), load_start(folder / "sparse.npz")
    network, masks = adapted(signal, start)
    first = tuple(tensors_of(start.network()))
    there = tuple(masks.get(name) for name, _ in network.named_parameters())
    layout = layout_of(network, signal, start=(folder / "sparse.npz").read_bytes())
    told = Grid(bytes([70] * len(first)), first, there)
    dense = integer_file(layout, told.integers(tensors_of(network)), told.steps)
    assert len(file_of(network, layout, told)) < len(dense)


def test_latents_need_no_budget_and_the_start_draws_them_at_any_size(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shared = folder / "latent.npz"
    encoded = automl.encode(folder / "seen" / "1.png", out="one.inr", start=shared)
    assert "of the shared network" in encoded.told and encoded.psnr > 12
    assert automl.decode("one.inr", start=shared).shape == (16, 24, 3)
    assert automl.decode("one.inr", "large.png", size=(40, 60), start=shared).shape == (40, 60, 3)
    with pytest.raises(ExportError, match="at most 9 bytes"):
        automl.encode(folder / "seen" / "1.png", "9 B", start=shared)
    with pytest.raises(DataError, match="--start FILE"):
        automl.decode("one.inr")
    with pytest.raises(DataError, match="SHA-256"):
        automl.decode("one.inr", start=folder / "whole.npz")
    with pytest.raises(ConfigError, match="only latents do without"):
        automl.encode(folder / "new.png", start=folder / "whole.npz")
    with pytest.raises(ConfigError, match="nearest or trained"):
        automl.encode(folder / "new.png", "200 B", start=folder / "gated.npz", rounding="both")
    with pytest.raises(ConfigError, match="has its own network"):
        automl.encode(folder / "new.png", "200 B", start=shared, width=8)


def test_from_the_command_line(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ("--form", "latent", "--patch", "8", "--width", "8", "--depth", "2", "--steps", "5", "--latent", "4")
    options += ("--inner-steps", "1")
    done = command("learn-start", str(folder / "seen"), "--out", "s.npz", *options)
    assert done.code == 0 and "24 signals of 8 x 8 points" in done.err and "SHA-256" in done.err, done.err
    done = command("encode", str(folder / "new.png"), "--start", "s.npz", "--out", "new.inr")
    assert done.code == 0 and "latents" in done.out, done.err
    assert command("decode", "new.inr", "--start", "s.npz", "--out", "back.png").code == 0
    assert load_start(Path("s.npz"))[0].rates["latent"].shape == (1, 4)  # learnt for each number
    Path("s.npz").write_bytes(Path("s.npz").read_bytes()[:-9])
    for words in (("encode", str(folder / "new.png"), "--out", "n.inr"), ("decode", "new.inr", "--out", "b.png")):
        done = command(*words, "--start", "s.npz")
        assert done.code == 1 and done.err.count("\n") == 1 and "start" in done.err, done.err
    done = command("learn-start", str(folder / "seen"), "--out", "s.npz", "--density", "2")
    assert done.code == 1 and "density in (0, 1]" in done.err


def test_a_folder_that_cannot_be_learnt_from_is_said(folder, tmp_path):
    with pytest.raises(DataError, match="none at"):
        learn_start(tmp_path / "nowhere")
    with pytest.raises(DataError, match="got none"):
        learn_start(tmp_path)
    draw(tmp_path / "a.png")
    with pytest.raises(DataError, match="at least 2 signals"):
        learn_start(tmp_path)
    draw(tmp_path / "b.png", 9, 9)
    with pytest.raises(DataError, match="--patch 32"):
        learn_start(tmp_path)
    values, sides = training_set(tmp_path, 8)
    assert values.shape == (6 + 1, 64, 3) and sides == (8, 8)
    assert torch.equal(values[-1], read_signal(tmp_path / "b.png").targets.view(9, 9, 3)[:8, :8].reshape(64, 3))
    with pytest.raises(ConfigError, match="a form of whole"):
        learn_start(folder / "seen", form="short")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"with \.npz"):
        learn_start(folder / "seen", tmp_path / "start.pt", patch=8, width=4, depth=1, steps=1)
