"""Streams of symbols in a packed file: each code gives them back in as many bytes as said; foreign ones are refused."""

import math
import struct
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.codecs import huffman, rans
from search_spaces.codecs.entropy import mask_bytes
from search_spaces.codecs.reader import (
    FIXED,
    GAPS,
    HUFFMAN,
    LANE,
    LONGEST,
    MASK,
    RANS,
    STREAM,
    VALUES,
    How,
    fixed_bytes,
    symbols_of,
    unpacked,
)
from search_spaces.codecs.reader import fixed as read_fixed
from search_spaces.codecs.streams import fixed, gaps, mask_symbols, stream

ALPHABETS = (2, 3, 4, 8, 16, 32, 64, 128, 256)


@st.composite
def symbols(draw, longest=4 * LANE):
    """(symbols uint8 [n], alphabet): skewed to any degree, of none to a few lanes."""
    alphabet, seed = draw(st.sampled_from(ALPHABETS)), draw(st.integers(0, 2**20))
    count = draw(st.one_of(st.integers(0, 20), st.integers(0, longest), st.sampled_from((LANE - 1, LANE, LANE + 1))))
    rng = np.random.default_rng(seed)
    weights = rng.random(alphabet) ** draw(st.sampled_from((0, 1, 8, 40)))
    return rng.choice(alphabet, count, p=weights / weights.sum()).astype(np.uint8), alphabet


def written(found, alphabet, code):
    """A coded stream in the code asked for, whether it is the shortest or not."""
    counts = np.bincount(found, minlength=alphabet)
    bodies = {
        FIXED: lambda: fixed(found, alphabet),
        HUFFMAN: lambda: huffman.body(found, counts),
        RANS: lambda: rans.body(found, counts),
    }
    content = struct.pack(STREAM, code, alphabet - 1, len(found)) + bodies[code]()
    return np.frombuffer(content, dtype=np.uint8)


@given(symbols(), st.sampled_from((FIXED, HUFFMAN, RANS)))
@settings(max_examples=150, deadline=None)
def test_every_code_gives_back_the_symbols(case, code):
    found, alphabet = case
    content = written(found, alphabet, code)
    assert np.array_equal(symbols_of(content, len(found), alphabet), found)
    counts = np.bincount(found, minlength=alphabet)
    if code == FIXED:
        assert len(content) == 6 + fixed_bytes(len(found), alphabet)
    elif code == HUFFMAN:
        assert len(content) == 6 + huffman.body_bytes(counts)
    else:
        lanes = -(-len(found) // LANE)
        assert abs(len(content) - 6 - rans.body_bytes(counts)) <= 4 + 4 * lanes


@given(symbols())
@settings(max_examples=60, deadline=None)
def test_the_shortest_code_is_taken(case):
    found, alphabet = case
    made = stream(found, alphabet, coded=True)
    content = made.write().numpy()
    assert np.array_equal(symbols_of(content, None, None), found)
    shortest = min(len(written(found, alphabet, code)) for code in (FIXED, HUFFMAN, RANS))
    assert shortest <= len(content) <= shortest + 8 + 4 * -(-len(found) // LANE)


def test_entropy_is_nearly_reached_and_huffman_lengths_are_those_of_the_textbook():
    rng = np.random.default_rng(0)
    found = rng.choice(8, 50_000, p=np.array([60, 20, 10, 5, 2, 1, 1, 1]) / 100).astype(np.uint8)
    counts = np.bincount(found, minlength=8)
    share = counts / counts.sum()
    entropy = -(share @ np.log2(share)) * len(found) / 8
    assert entropy < len(rans.body(found, counts)) < 1.03 * entropy
    assert entropy < len(huffman.body(found, counts)) < 1.06 * entropy
    assert huffman.code_lengths(np.array([8, 4, 2, 1, 1])).tolist() == [1, 2, 3, 4, 4]
    fibonacci = np.array([1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987, 1597, 2584, 4181, 6765])
    lengths = huffman.code_lengths(np.append(fibonacci, np.zeros(12, dtype=np.int64)))
    assert 10 < lengths.max() <= LONGEST and sum(2.0**-n for n in lengths[:20]) == 1 and not lengths[20:].any()


def test_frequencies_add_up_for_any_counts():
    rng = np.random.default_rng(0)
    for seed in range(200):
        counts = rng.integers(0, 10 ** rng.integers(1, 7), int(rng.choice(ALPHABETS)))
        counts *= rng.random(len(counts)) < rng.random()
        frequencies = rans.frequencies_of(counts)
        assert frequencies.sum() == 4096 and (frequencies >= 0).all(), seed
        assert (frequencies[counts > 0] > 0).all()


@given(st.sampled_from(ALPHABETS), st.data())
@settings(max_examples=100, deadline=None)
def test_fixed_length_is_one_number_lowest_first(alphabet, data):
    found = data.draw(st.lists(st.integers(0, alphabet - 1), max_size=40))
    content = fixed(np.array(found, dtype=np.uint8), alphabet)
    if alphabet == 3:
        groups = [found[start : start + 5] for start in range(0, len(found), 5)]
        assert list(content) == [sum(digit * 3**i for i, digit in enumerate(group)) for group in groups]
    else:
        bits = int(math.log2(alphabet))
        whole = sum(symbol << (i * bits) for i, symbol in enumerate(found))
        assert content == whole.to_bytes(-(-len(found) * bits // 8), "little")
    assert read_fixed(np.frombuffer(content, dtype=np.uint8), len(found), alphabet).tolist() == found


@pytest.mark.parametrize("bits", [3, 8])
def test_long_streams_are_written_and_read_in_chunks_that_fit_together(bits, monkeypatch):
    found = np.random.default_rng(0).integers(0, 1 << bits, 101).astype(np.uint8)
    whole = fixed(found, 1 << bits)
    for chunk in (8, 96, 104):
        monkeypatch.setattr("search_spaces.codecs.streams.CHUNK", chunk)
        monkeypatch.setattr("search_spaces.codecs.reader.CHUNK", chunk)
        assert fixed(found, 1 << bits) == whole
        assert np.array_equal(read_fixed(np.frombuffer(whole, dtype=np.uint8), 101, 1 << bits), found)


@given(st.integers(1, 3000), st.floats(0.002, 1), st.integers(0, 2**20))
@settings(max_examples=100, deadline=None)
def test_gaps_and_masks_tell_the_same_numbers(count, density, seed):
    rng = np.random.default_rng(seed)
    kept = rng.random(count) < density
    values = rng.standard_normal(int(kept.sum())).astype(np.float32)
    expected = np.zeros(count, dtype=np.float32)
    expected[kept] = values
    mask = stream(mask_symbols(kept), 16, coded=True).write().numpy()
    assert np.array_equal(unpacked(How((count,)), {VALUES: values, MASK: mask}, None, coded=True), expected)
    between = gaps(np.flatnonzero(kept), count)
    if between is not None:
        parts = {VALUES: values, GAPS: between.write().numpy()}
        assert np.array_equal(unpacked(How((count,)), parts, None, coded=True), expected)
        with pytest.raises(ValueError, match="do not fill"):
            unpacked(How((count + 256,)), parts, None, coded=True)
        with pytest.raises(ValueError, match="do not fill"):
            unpacked(How((count, 10**12)), parts, None, coded=True)


@given(symbols(2 * LANE), st.sampled_from((FIXED, HUFFMAN, RANS)), st.integers(0, 2**20))
@settings(max_examples=150, deadline=None)
def test_a_stream_that_was_cut_or_changed_is_one_value_error_or_other_symbols(case, code, seed):
    found, alphabet = case
    content, rng = written(found, alphabet, code), np.random.default_rng(seed)
    for broken in (content[: rng.integers(0, len(content))], np.append(content, np.uint8(7))):
        with pytest.raises(ValueError, match=r"expected|do not fill"):
            symbols_of(broken, len(found), alphabet)
    changed = content.copy()
    changed[rng.integers(0, len(content))] ^= np.uint8(rng.integers(1, 256))
    try:
        got = symbols_of(changed, len(found), alphabet)
    except ValueError as error:
        assert "\n" not in str(error)
    else:
        assert len(got) == len(found)


@pytest.mark.parametrize("code", [HUFFMAN, RANS])
def test_nothing_is_allocated_for_a_number_of_symbols_that_is_refused(code):
    content = np.frombuffer(struct.pack(STREAM, code, 255, 2**32 - 1) + bytes(4000), dtype=np.uint8)
    with pytest.raises(ValueError, match="do not fill"):
        symbols_of(content, 2**32 - 1, 256)
    assert Counter(content.tolist())[0] > 3000


@given(
    st.integers(1, 40_000),
    st.floats(0, 1),
    st.sampled_from(("anywhere", "first", "in blocks", "evenly")),
    st.integers(0, 2**20),
)
@settings(max_examples=150, deadline=None)
def test_a_mask_is_bounded_wherever_what_is_kept_lies(count, share, lie, seed):
    kept = int(share * count)
    rng = np.random.default_rng(seed)
    rank = {
        "anywhere": rng.permutation(count),
        "first": np.arange(count),
        "in blocks": np.argsort(np.argsort(rng.permutation(count // 7 + 1)[np.arange(count) // 7], kind="stable")),
        "evenly": np.argsort(np.argsort(np.arange(count) * 0.618 % 1)),
    }[lie]
    mask = rank < kept
    bound = float(mask_bytes(np.array(float(count)), np.array(float(kept))))
    written = stream(mask_symbols(mask), 16, coded=True)
    assert mask.sum() == kept and len(written.write()) <= bound <= math.ceil(count / 8) + 8
    for more in (np.array([count, kept + 1.0]), np.array([count + 1.0, kept]), np.array([count + 1.0, kept + 1.0])):
        assert mask_bytes(more[0], np.minimum(more[1], more[0])) >= bound
    if lie == "anywhere" and share < 0.5:  # it is no looser than lanes and tables make it
        assert bound <= 1.02 * written.length + count / 800 + 80
