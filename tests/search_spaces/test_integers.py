"""Integers in a packed file: exact for any weight, shape and width; bytes as promised."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from search_spaces.codecs.bitmask import MASK
from search_spaces.codecs.header import KEY, Packed, frame_bytes, metadata, packed_of
from search_spaces.codecs.integers import (
    INTEGERS,
    SCALE,
    bound,
    decode,
    encode,
    holds,
    integers_of,
    pack_integers,
    unpack_integers,
)

SCALES = st.floats(2.0**-140, 2.0**100, width=32)


@st.composite
def quantized(draw):
    """(integers int8 [out, ...], scale [out], bits): all of a width, a part of them zero."""
    bits = draw(st.integers(2, 8))
    shape = draw(st.lists(st.integers(1, 5), min_size=2, max_size=4))
    seed, density = draw(st.integers(0, 2**20)), draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    generator = torch.Generator().manual_seed(seed)
    integers = torch.randint(-(2 ** (bits - 1)), 2 ** (bits - 1), shape, generator=generator).to(torch.int8)
    integers[torch.rand(shape, generator=generator) >= density] = 0
    scale = torch.tensor(draw(st.lists(SCALES, min_size=shape[0], max_size=shape[0])), dtype=torch.float32)
    return integers, scale, bits


def times(integers, scale):
    return integers.float() * scale.view(-1, *[1] * (integers.ndim - 1))


def same_bits(a, b):
    return a.shape == b.shape and a.dtype == b.dtype and a.numpy().tobytes() == b.numpy().tobytes()


@given(quantized(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_what_is_encoded_comes_back_bit_for_bit_in_as_many_bytes_as_said(case, masked):
    integers, scale, bits = case
    weight = times(integers, scale)
    assert torch.equal(integers_of(weight, scale), integers)
    assert holds(weight, scale) == (4 if all(-8 <= n <= 7 for n in integers.flatten().tolist()) else 8)
    assert holds(weight, scale, range(2, bits + 1)) is not None
    parts = encode(weight, scale, bits, masked=masked)
    stored = int((integers != 0).sum()) if masked else integers.numel()
    assert parts[INTEGERS].dtype == torch.uint8 and len(parts[INTEGERS]) == -(-stored * bits // 8)
    assert (MASK in parts) == masked
    back = decode(parts[INTEGERS], scale, Packed(tuple(weight.shape), bits), parts.get(MASK))
    assert same_bits(back, weight)


@given(st.integers(2, 8), st.lists(st.integers(-128, 127), max_size=40))
@settings(max_examples=150, deadline=None)
def test_integers_lie_one_after_the_other_lowest_bit_first_and_padding_is_zero(bits, numbers):
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    numbers = [min(max(n, low), high) for n in numbers]
    packed = pack_integers(torch.tensor(numbers, dtype=torch.int8), bits)
    stream = sum((n % 2**bits) << (i * bits) for i, n in enumerate(numbers))  # padding included: all above is 0
    assert packed.numpy().tobytes() == stream.to_bytes(-(-len(numbers) * bits // 8), "little")
    assert unpack_integers(packed, len(numbers), bits).tolist() == numbers


def test_the_widths_of_the_note_by_hand():
    assert pack_integers(torch.tensor([1, -1, 7, -8, 3], dtype=torch.int8), 4).tolist() == [0xF1, 0x87, 0x03]
    assert pack_integers(torch.tensor([1, -1, -128], dtype=torch.int8), 8).tolist() == [0x01, 0xFF, 0x80]


@pytest.mark.parametrize("bits", [3, 8])
def test_long_tensors_are_packed_in_chunks_that_fit_together(bits, monkeypatch):
    numbers = torch.randint(-4, 4, (101,), generator=torch.Generator().manual_seed(0)).to(torch.int8)
    whole = pack_integers(numbers, bits)
    for chunk in (8, 96, 104):
        monkeypatch.setattr("search_spaces.codecs.integers._CHUNK", chunk)
        assert torch.equal(pack_integers(numbers, bits), whole)
        assert torch.equal(unpack_integers(whole, 101, bits), numbers)
    assert torch.equal(unpack_integers(pack_integers(numbers[:96], bits), 96, bits), numbers[:96])


def test_what_is_not_exactly_integers_times_scale_is_refused():
    integers = torch.arange(-7, 8, dtype=torch.int8).repeat(2, 1)
    scale = torch.tensor([0.1, 0.3])
    weight = times(integers, scale)
    assert holds(weight, scale) == 4 and holds(weight, scale, (2, 3)) is None and holds(weight, scale, (8,)) == 8
    for index, value in (((0, 9), torch.nextafter(weight[0, 9], torch.tensor(9.0))), ((1, 7), -0.0), ((0, 0), 12.9)):
        off = weight.clone()
        off[index] = value
        assert holds(off, scale) is None
        with pytest.raises(ValueError, match="Round them first"):
            encode(off, scale, 8)
    for value in (torch.nan, torch.inf):
        off = weight.clone()
        off[0, 3] = value
        assert holds(off, scale) is None and holds(weight, torch.tensor([0.1, value])) is None
    assert holds(weight.double(), scale) is None and holds(weight, scale.double()) is None
    assert holds(weight, scale[:1]) is None and holds(weight[0], scale) is None and holds(weight[:0], scale[:0]) is None
    assert holds(torch.zeros(2, 15), torch.zeros(2)) == 4 and holds(times(integers * 18, scale), scale) == 8
    with pytest.raises(ValueError, match="Round them first"):
        encode(weight, scale, 3)


@pytest.mark.parametrize(
    ("shape", "bits", "count", "scale"),
    [((2, 5), 4, 4, 2), ((2, 5), 4, 6, 2), ((2, 5), 9, 10, 2), ((2, 5), None, 10, 2), ((2, 5), 8, 10, 3)],
)
def test_parts_that_do_not_fit_are_a_value_error(shape, bits, count, scale):
    with pytest.raises(ValueError, match="a tensor of shape"):
        decode(torch.zeros(count, dtype=torch.uint8), torch.ones(scale), Packed(shape, bits))


def test_bounds_are_a_few_bytes_above_the_file_also_for_smaller_shapes():
    largest = (64, 32, 3, 3)
    sizes = bound("layer1.conv.weight", largest, 100_000)
    generator = torch.Generator().manual_seed(0)
    for shape in (largest, (9, 7, 3, 3), (1, 1)):
        for bits in (4, 8):
            for masked in (False, True):
                integers = torch.randint(-7, 8, shape, generator=generator).to(torch.int8)
                if masked:
                    integers[torch.rand(shape, generator=generator) < 0.8] = 0
                scale = torch.rand(shape[0], generator=generator) + 0.1
                parts = encode(times(integers, scale), scale, bits, masked=masked)
                name = "layer1.conv.weight"
                content = {name + suffix: part for suffix, part in parts.items()} | {name + SCALE: scale}
                length = len(save(content, {KEY: metadata({name: Packed(shape, bits)})}))
                numbers, stored = integers.numel(), int((integers != 0).sum())
                told = sizes.masked(numbers, stored, bits) if masked else sizes.whole(numbers, bits)
                total = told + sizes.scale(shape[0]) + frame_bytes(integers=True)
                assert length <= total <= length + 60


def test_bounds_take_arrays_of_counts():
    sizes = bound("weight", (64, 32), 10_000)
    numbers, bits = np.array([0, 1, 100, 2048]), np.array([4, 8, 3, 4])
    stored = numbers // 3
    assert sizes.whole(numbers, bits).tolist() == [
        sizes.whole(int(n), int(b)) for n, b in zip(numbers, bits, strict=True)
    ]
    expected = [sizes.masked(int(n), int(s), int(b)) for n, s, b in zip(numbers, stored, bits, strict=True)]
    assert sizes.masked(numbers, stored, bits).tolist() == expected
    assert (np.diff(sizes.whole(numbers, 4)) >= 0).all() and sizes.scale(numbers)[2] == sizes.scale(100)


def test_metadata_tell_shape_and_bits_and_change_only_where_there_are_integers():
    told = {"a": Packed((2, 3)), "b": Packed((4, 5), 4)}
    assert packed_of(metadata(told)) == told
    assert list(json.loads(metadata(told))) == ["note", "shapes", "bits"] and "NAME_scale" in metadata(told)
    assert list(json.loads(metadata({"a": Packed((2, 3))}))) == ["note", "shapes"]
    assert "integers" not in metadata({"a": Packed((2, 3))})
