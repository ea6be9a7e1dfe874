"""Files `.inr`: what is written is read, bit for bit, by NumPy alone; what is no such file is refused."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from automl.errors import ExportError
from automl.signals import inr_reader
from automl.signals.arithmetic import Encoder, coded
from automl.signals.inr_file import half_file, header, integer_file, layout_of, siren_of, step_bytes, tensors_of
from automl.signals.inr_reader import Model, _Decoder, drawn, network_of, step_of
from automl.signals.signal import Signal, coordinates
from automl.signals.siren import FourierFeatures, Siren

integers = st.one_of(st.integers(-3, 3), st.integers(-(2**24) + 1, 2**24 - 1))


def example(kind="image", shape=(9, 7), channels=3, frequencies=0):
    torch.manual_seed(0)
    facts = {"image": {}, "audio": {"rate": 8000}, "array": {"type": 3, "low": -1.5, "high": 2.0}}[kind]
    signal = Signal(np.zeros((*shape, channels), np.float32), kind, facts)
    features = FourierFeatures(len(shape), frequencies) if frequencies else None
    return signal, Siren(len(shape), channels, 6, 2, features=features)


def in_steps(siren: Siren, size: float = 0.01) -> tuple[list[torch.Tensor], bytes]:
    steps = step_bytes([size] * len(tensors_of(siren)))
    return [(p / step_of(byte)).round() for p, byte in zip(tensors_of(siren), steps, strict=True)], steps


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(integers, max_size=60), max_size=5))
def test_any_integers_come_back(tensors):
    stream = coded(tensors)
    decoder, models = _Decoder(stream), (Model(), Model())
    found = [[decoder.integer(models[i % 2]) for _ in values] for i, values in enumerate(tensors)]
    decoder.end()
    assert found == tensors


def test_a_stream_takes_about_the_entropy_of_its_integers():
    rng = np.random.default_rng(0)
    values = np.rint(rng.normal(0, 6, 3000)).astype(int)
    _, counts = np.unique(values, return_counts=True)
    entropy = -(counts * np.log2(counts / 3000)).sum() / 8
    assert entropy * 0.98 < len(coded([values.tolist()])) < entropy * 1.03 + 12
    sparse = np.where(rng.random(3000) < 0.1, values, 0)
    _, counts = np.unique(sparse, return_counts=True)
    assert len(coded([sparse.tolist()])) < -(counts * np.log2(counts / 3000)).sum() / 8 * 1.05 + 12


def test_a_carry_goes_through_all_bytes_that_wait_for_it():
    encoder, model = Encoder(), Model()
    encoder._held, encoder._full, encoder._low = b"\x12", 3, 0x1_0000_0000
    encoder.integer(1, model)
    assert encoder.end().startswith(b"\x13\0\0\0")


@pytest.mark.parametrize(
    ("kind", "shape", "channels"), [("image", (9, 7), 3), ("audio", (300,), 2), ("array", (3, 4, 5), 1)]
)
@pytest.mark.parametrize("frequencies", [0, 2])
def test_a_file_draws_what_the_network_draws(kind, shape, channels, frequencies):
    signal, siren = example(kind, shape, channels, frequencies)
    layout = layout_of(siren, signal)
    numbers, steps = in_steps(siren)
    network = network_of(integer_file(layout, numbers, steps))
    assert network.layout == layout
    for tensor, q, byte, own in zip(network.tensors, numbers, steps, tensors_of(siren), strict=True):
        assert np.array_equal(tensor, q.numpy() * np.float32(step_of(byte)))
        own.copy_(torch.from_numpy(tensor))
    with torch.no_grad():
        expected = siren(coordinates(shape)).clamp(0, 1).reshape(*shape, channels)
    np.testing.assert_allclose(drawn(network), expected, atol=1e-5)
    assert drawn(network, [2 * n for n in shape]).shape == (*[2 * n for n in shape], channels)
    again = siren_of(layout)
    assert [p.shape for p in tensors_of(again)] == [p.shape for p in tensors_of(siren)]


def test_half_floats_come_back_and_the_header_takes_fourteen_bytes():
    signal, siren = example()
    layout = layout_of(siren, signal, coded=False)
    content = half_file(layout, tensors_of(siren))
    assert len(content) == 14 + 2 * layout.parameters and len(header(layout)) == 8
    for found, own in zip(network_of(content).tensors, tensors_of(siren), strict=True):
        assert np.array_equal(found, own.half().float().numpy())
    with pytest.raises(ExportError, match="float16"):
        half_file(layout, [p + 1e6 for p in tensors_of(siren)])


def test_a_difference_is_added_to_the_start_that_it_names():
    signal, siren = example()
    start = half_file(layout_of(siren, signal, coded=False), tensors_of(siren))
    numbers, steps = in_steps(siren)
    content = integer_file(layout_of(siren, signal, start=start), numbers, steps)
    network = network_of(content, start)
    for found, q, byte, own in zip(network.tensors, numbers, steps, tensors_of(siren), strict=True):
        assert np.array_equal(found, own.half().float().numpy() + q.numpy() * np.float32(step_of(byte)))
    with pytest.raises(ValueError, match="expected the start"):
        network_of(content)
    other = half_file(layout_of(siren, signal, coded=False), [p * 2 for p in tensors_of(siren)])
    with pytest.raises(ValueError, match="expected a start of SHA-256"):
        network_of(content, other)


def test_a_step_is_named_by_a_byte():
    steps = [step_of(byte) for byte in range(256)]
    assert steps == sorted(set(steps)) and steps[0] < 1e-6 and steps[-1] > 1000
    assert [step_bytes([step])[0] for step in steps] == list(range(256))
    assert all(np.float32(step) == step for step in steps)


def test_every_part_of_a_file_and_every_flipped_bit_is_refused():
    signal, siren = example()
    content = integer_file(layout_of(siren, signal), *in_steps(siren))
    for length in range(len(content)):
        with pytest.raises(ValueError, match=r"expected|do not hold"):
            network_of(content[:length])
    missed = 0
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            network_of(bytes(damaged))
            missed += 1
        except ValueError:
            pass
    assert missed == 0


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_foreign_bytes_are_refused(content):
    with pytest.raises(ValueError, match="expected"):
        network_of(content)


@settings(max_examples=300, deadline=None)
@given(st.binary(min_size=1, max_size=60))
def test_a_header_of_any_bytes_is_read_or_refused(rest):
    with suppress(ValueError):
        network_of(inr_reader.MAGIC + inr_reader.checksum(rest) + rest)


def test_nothing_is_allocated_for_what_is_not_there():
    signal, siren = example()
    layout = replace(layout_of(siren, signal), width=3000)
    for rest, told in (
        (header(layout) + bytes(40), "do not hold"),
        (header(replace(layout, width=2**20)) + bytes(40), "network of at most"),
        (header(replace(layout, shape=(2**30, 2**30))) + bytes(40), "grid of at most"),
        (header(replace(layout, depth=2**30)) + bytes(40), "network of at most"),
    ):
        with pytest.raises(ValueError, match=told):
            network_of(inr_reader.MAGIC + inr_reader.checksum(rest) + rest)


def test_the_reader_stands_alone(tmp_path: Path):
    signal, siren = example("array", (4, 5), 1)
    content = integer_file(layout_of(siren, signal), *in_steps(siren))
    (tmp_path / "a.inr").write_bytes(content)
    (tmp_path / "reader.py").write_text(Path(inr_reader.__file__).read_text())
    command = [sys.executable, "-I", "reader.py", "a.inr", "back.npy"]
    subprocess.run(command, cwd=tmp_path, check=True)
    network = network_of(content)
    assert np.array_equal(np.load(tmp_path / "back.npy"), inr_reader.as_stored(drawn(network), network.layout))
