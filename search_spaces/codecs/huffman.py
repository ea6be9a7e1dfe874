"""Canonical Huffman codes of a stream of symbols, as `search_spaces.codecs.reader` reads them.

Deep Compression (Han et al. 2016, section 4) codes its values and gaps so.
"""

from __future__ import annotations

import heapq

import numpy as np
import numpy.typing as npt

from search_spaces.codecs.reader import LANE, LONGEST

Counts = npt.NDArray[np.int64]
"""How often each symbol occurs: [alphabet], or another whole number for each."""


def code_lengths(counts: Counts) -> Counts:
    """The bits of each symbol's code, 0 for one that does not occur: [alphabet]. None has more than `LONGEST`."""
    counts = counts.copy()
    if np.count_nonzero(counts) < 2:  # a code has at least two
        counts[[0, 1]] = np.maximum(counts[[0, 1]], 1)
    while (lengths := _depths(counts)).max() > LONGEST:
        counts = (counts + 1) // 2  # flatter, with no symbol lost
    return lengths


def body_bytes(counts: Counts) -> int:
    """How long `body` will be, symbols occurring so often."""
    count = int(counts.sum())
    return -(-len(counts) // 2) + 4 * -(-count // LANE) + -(-int(counts @ code_lengths(counts)) // 8)


def body(symbols: npt.NDArray[np.uint8], counts: Counts) -> bytes:
    """The lengths, where each lane begins, and the codes of `symbols`, [n]."""
    lengths = code_lengths(counts)
    nibbles = np.append(lengths, 0)[: len(lengths) + len(lengths) % 2].astype(np.uint8).reshape(-1, 2)
    ends = np.cumsum(lengths[symbols])
    starts = np.append(0, ends)[: len(symbols) : LANE].astype("<u4")
    codes = _codes(lengths)
    bits = [np.zeros(0, dtype=np.uint8)]
    for start in range(0, len(symbols), 256 * LANE):
        part = symbols[start : start + 256 * LANE]
        of_part = lengths[part]
        left = np.repeat(np.cumsum(of_part), of_part) - np.arange(of_part.sum()) - 1  # bits after this one in its code
        bits.append((np.repeat(codes[part], of_part) >> left & 1).astype(np.uint8))
    table = nibbles[:, 0] | nibbles[:, 1] << 4
    return table.tobytes() + starts.tobytes() + np.packbits(np.concatenate(bits)).tobytes()


def _depths(counts: Counts) -> Counts:
    """The depth of each symbol in a Huffman tree, 0 for one that does not occur: [alphabet]."""
    heap = [(int(counts[symbol]), int(symbol), [int(symbol)]) for symbol in np.flatnonzero(counts)]
    heapq.heapify(heap)
    depths = np.zeros(len(counts), dtype=np.int64)
    while len(heap) > 1:
        (low, _, left), (high, place, right) = heapq.heappop(heap), heapq.heappop(heap)
        depths[left + right] += 1
        heapq.heappush(heap, (low + high, place, left + right))
    return depths


def _codes(lengths: Counts) -> Counts:
    """The canonical code of each symbol, shorter ones first and those of one length in order: [alphabet]."""
    used = np.flatnonzero(lengths)
    order = used[np.argsort(lengths[used], kind="stable")]
    reach = 1 << (LONGEST - lengths[order])
    codes = np.zeros(len(lengths), dtype=np.int64)
    codes[order] = (np.cumsum(reach) - reach) >> (LONGEST - lengths[order])
    return codes
