"""Static rANS of a stream of symbols, as `search_spaces.codecs.reader` reads it.

Duda 2013, "Asymmetric numeral systems", arXiv 1311.2540, in the range variant of section 3. Lanes of symbols are
interleaved (Giesen 2014, "Interleaved entropy coders", arXiv 1402.3392), so that NumPy codes all of them at once.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from search_spaces.codecs.huffman import Counts
from search_spaces.codecs.reader import LANE, LOWEST_STATE, PRECISION


def frequencies_of(counts: Counts) -> Counts:
    """Whole numbers in proportion to `counts`, at least 1 where that is, which add up to 2^`PRECISION`: [alphabet]."""
    total = 1 << PRECISION
    frequencies: Counts = np.rint(counts * (total / max(int(counts.sum()), 1))).astype(np.int64)
    frequencies = np.where(counts > 0, np.maximum(frequencies, 1), 0)
    frequencies[frequencies.argmax()] += max(total - int(frequencies.sum()), 0)
    while frequencies.sum() > total:
        frequencies[frequencies.argmax()] -= 1
    return frequencies


def body_bytes(counts: Counts) -> int:
    """About how long `body` will be, symbols occurring so often."""
    count, frequencies = int(counts.sum()), frequencies_of(counts)
    bits = PRECISION * count - float(counts @ np.log2(np.maximum(frequencies, 1)))
    return 2 * len(counts) + 4 * -(-count // LANE) + int(bits / 8) + 2


def body(symbols: npt.NDArray[np.uint8], counts: Counts) -> bytes:
    """The frequencies, the state of each lane and the words of `symbols`, [n]."""
    frequencies = frequencies_of(counts)
    before = np.cumsum(frequencies) - frequencies
    lanes = -(-len(symbols) // LANE)
    state = np.full(lanes, LOWEST_STATE, dtype=np.int64)
    words: list[npt.NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)]
    for start in reversed(range(0, len(symbols), max(lanes, 1))):  # what is read last is written first
        part = symbols[start : start + lanes]
        now, frequency = state[: len(part)], frequencies[part]
        (high,) = (now >= frequency << (32 - PRECISION)).nonzero()
        words.append(now[high] & 0xFFFF)
        now[high] >>= 16
        whole, rest = np.divmod(now, frequency)
        now[:] = (whole << PRECISION) + rest + before[part]
    stream = np.concatenate(words[::-1]).astype("<u2")
    return frequencies.astype("<u2").tobytes() + state.astype("<u4").tobytes() + stream.tobytes()
