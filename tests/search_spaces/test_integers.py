"""Integers in a packed file: exact for any weight, shape and format; bytes as promised."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save

from search_spaces.codecs.header import KEY, HeaderBound, Packed, Told, frame_bytes, metadata, told_bytes, told_of
from search_spaces.codecs.integers import bound, format_of, holds, integers_of, symbols_of
from search_spaces.codecs.number_formats import BY_LEVEL, CODED, FORMATS, SHARED, twos_complement
from search_spaces.codecs.packing import pack, pack_open, unpack
from search_spaces.codecs.reader import GAPS, INTEGERS, MASK, SCALE
from search_spaces.pricing.metrics import FLOAT_BITS

SCALES = st.floats(2.0**-140, 2.0**100, width=32)


@st.composite
def quantized(draw):
    """(integers int8 [out, ...], scale [out]): all of a format, a part of them zero, in any number."""
    form = draw(st.sampled_from(list(FORMATS.values())))
    shape = draw(st.one_of(st.lists(st.integers(1, 5), min_size=2, max_size=4), st.just([9, 40]), st.just([30, 50, 3])))
    seed, density = draw(st.integers(0, 2**20)), draw(st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0]))
    generator = torch.Generator().manual_seed(seed)
    grid = torch.tensor(form.grid, dtype=torch.int8)
    integers = grid[torch.randint(0, len(grid), shape, generator=generator)]
    integers[torch.rand(shape, generator=generator) >= density] = 0
    scale = torch.tensor(draw(st.lists(SCALES, min_size=1, max_size=shape[0])), dtype=torch.float32)
    return integers, scale.repeat(shape[0])[: shape[0]]


def times(integers, scale):
    return integers.float() * scale.view(-1, *[1] * (integers.ndim - 1))


def same_bits(a, b):
    return a.shape == b.shape and a.dtype == b.dtype and a.numpy().tobytes() == b.numpy().tobytes()


@given(quantized())
@settings(max_examples=150, deadline=None)
def test_what_is_packed_comes_back_bit_for_bit(tmp_path_factory, case):
    integers, scale = case
    weight = times(integers, scale)
    assert torch.equal(integers_of(weight, scale), integers)
    form = holds(weight, scale)
    assert set(integers.flatten().tolist()) <= set(form.grid)
    assert np.array_equal(np.array(form.grid)[symbols_of(integers, form)], integers.flatten().numpy())
    path = tmp_path_factory.getbasetemp() / "packed.safetensors"
    state = {"w": weight, "w_scale": scale, "b": torch.ones(3)}
    path.write_bytes(pack(state))
    got = unpack(path)
    assert got.keys() == state.keys() and all(same_bits(got[name], tensor) for name, tensor in state.items())


def test_formats_stand_in_the_order_of_what_they_take():
    forms = list(FORMATS.values())
    families = (forms, list(CODED.values()), list(SHARED.values()))
    assert list(BY_LEVEL) == [form.level for family in families for form in family], "no two have one level"
    assert max(BY_LEVEL) < FLOAT_BITS
    for family in families:
        for few, more in pairwise(family):
            assert few.level < more.level and few.bits <= more.bits and few.stored_bits <= more.stored_bits
            assert few.with_zero.bits <= more.with_zero.bits and few.with_zero.stored_bits <= more.with_zero.stored_bits
    for form in forms:
        assert len(set(form.grid)) == len(form.grid) <= 2**form.stored_bits + 1e-9 or form.name == "ternary"
        assert set(form.grid) <= set(form.with_zero.grid) and form.with_zero.has_zero
        assert format_of(torch.tensor(form.grid, dtype=torch.int8)) is form


def test_what_is_not_exactly_integers_times_scale_is_refused():
    integers = torch.arange(-7, 8, dtype=torch.int8).repeat(2, 1)
    scale = torch.tensor([0.1, 0.3])
    weight = times(integers, scale)
    assert holds(weight, scale) is FORMATS["int4"]
    for index, value in (((0, 9), torch.nextafter(weight[0, 9], torch.tensor(9.0))), ((1, 7), -0.0), ((0, 0), 12.9)):
        off = weight.clone()
        off[index] = value
        assert holds(off, scale) is None
    for value in (torch.nan, torch.inf):
        off = weight.clone()
        off[0, 3] = value
        assert holds(off, scale) is None and holds(weight, torch.tensor([0.1, value])) is None
    assert holds(weight.double(), scale) is None and holds(weight, scale.double()) is None
    assert holds(weight, scale[:1]) is None and holds(weight[0], scale) is None and holds(weight[:0], scale[:0]) is None
    assert holds(torch.zeros(2, 15), torch.zeros(2)) is FORMATS["ternary"]
    assert holds(times(integers * 18, scale), scale) is FORMATS["int8"]


def part(shape, form, density=1.0, seed=0):
    """Integers of a format that lie evenly over its grid, so that no code of them is shorter than fixed length."""
    generator = torch.Generator().manual_seed(seed)
    grid = torch.tensor(form.grid, dtype=torch.int8)
    integers = grid[torch.randint(0, len(grid), shape, generator=generator)]
    integers[torch.rand(shape, generator=generator) >= density] = 0
    return integers


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("density", [1.0, 0.3])
def test_bounds_are_at_least_the_file_also_for_smaller_shapes(name, density):
    largest, form = (64, 32, 3, 3), FORMATS[name]
    sizes = bound("layer1.conv.weight", largest, HeaderBound(100_000), [form])
    for shape in (largest, (40, 17, 3, 3)):
        integers = part(shape, form, density)
        scale = torch.rand(shape[0], generator=torch.Generator().manual_seed(1)) + 0.01
        state = {"layer1.conv.weight": times(integers, scale), "layer1.conv.weight_scale": scale}
        numbers, kept = integers.numel(), int((integers != 0).sum())
        whole = (form if density == 1 else form.with_zero).stored_bits
        told = min(
            sizes.lines + -(-numbers * whole // 8),
            sizes.masked_lines + -(-numbers // 8) + -(-kept * form.stored_bits // 8),
        )
        total = told + sizes.scale_line + 4 * shape[0] + frame_bytes(integers=True, grids=True, brief=True)
        length = len(pack(state))
        assert length <= total <= length + (250 if density == 1 else numbers // 8), (shape, length, total)


def test_every_format_takes_the_bits_that_it_says(tmp_path):
    path, shape = tmp_path / "packed.safetensors", (60, 200)
    for form in FORMATS.values():
        scale = torch.rand(shape[0], generator=torch.Generator().manual_seed(1)) + 0.01
        path.write_bytes(pack_open({"w": times(part(shape, form), scale), "w_scale": scale}))
        content = load_file(path)
        assert content.keys() == {"w" + INTEGERS, "w" + SCALE}
        assert len(content["w.integers"]) <= 12_000 * form.stored_bits / 8 + 1


@pytest.mark.parametrize(("density", "suffix"), [(0.01, GAPS), (0.4, MASK)])
def test_gaps_or_a_mask_tell_which_few_values_are_not_zero(density, suffix, tmp_path):
    path = tmp_path / "packed.safetensors"
    weight = torch.randn(300, 400, generator=torch.Generator().manual_seed(0))
    weight[torch.rand(300, 400, generator=torch.Generator().manual_seed(1)) >= density] = 0
    for dtype in (torch.float32, torch.bfloat16):
        path.write_bytes(pack_open({"w": weight.to(dtype)}))
        assert load_file(path).keys() == {"w.values", "w" + suffix}
        assert torch.equal(unpack(path)["w"], weight.to(dtype))


def test_metadata_tell_shape_and_bits_or_grid_and_change_only_where_there_are_integers():
    told = Told({"a": Packed((2, 3)), "b": Packed((4, 5), twos_complement(4)), "c": Packed((1, 2), (0, 1, -1))})
    brief = Told(told.packed, same={"ones": ((3, 2), 1.0), "steps": ((), 5)}, short=True)
    assert told_of(metadata(brief)) == brief and len(metadata(brief)) - len(metadata(told)) < 250
    assert told_of(metadata(told)) == told and told_of(metadata(Told(told.packed, coded=True))).coded
    assert list(json.loads(metadata(told))) == ["note", "shapes", "bits", "grids"] and "NAME_scale" in metadata(told)
    assert list(json.loads(metadata(Told({"a": Packed((2, 3))})))) == ["note", "shapes"]
    assert "integers" not in metadata(Told({"a": Packed((2, 3))}))
    few, more = (len(metadata(Told(dict(list(told.packed.items())[:n])))) for n in (2, 3))
    assert more - few >= told_bytes("c", told.packed["c"])
    assert len(save({}, {KEY: metadata(Told({}))})) <= frame_bytes()


@pytest.mark.parametrize(
    "more",
    [
        *({"bits": {"a": 9}}, {"grids": {"a": [1]}}, {"grids": {"a": [0, 1, 200]}}, {"coded": 1}, {"short": "yes"}),
        *({"same": {"b": same}} for same in ([[2**40], 1.0], [[2, -1], 1], [[2], "1"], [[2], True], [[2], 2**64])),
        *({"same": {"b": same}} for same in ([[2], float("nan")], [[2], 1e300], [2, 1], [[2]], 7)),
    ],
)
def test_metadata_that_are_none_are_refused(more):
    with pytest.raises(ValueError, match=r"metadata (have|are not those)|expected"):
        told_of(json.dumps({"shapes": {"a": [2, 3]}, **more}))
