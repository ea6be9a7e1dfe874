"""What an entropy code takes of integers before they are written, and whether that is within the bits of a format."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from search_spaces.codecs import rans
from search_spaces.codecs.number_formats import NumberFormat
from search_spaces.codecs.reader import LANE

STREAM_BYTES = 6
"""What a stream says of itself."""
LANE_BYTES = 6
"""What the first lane of a stream takes, however few symbols it has."""
MASK_BYTES = STREAM_BYTES + 2
"""What a mask that is written at fixed length takes in a coded file beside its bits."""
_TABLE_BYTES = 2 * 16
"""Of the frequencies of four bits of a mask."""
_LOST_BITS = 0.005
"""What rANS takes of each bit of a mask more than its entropy: frequencies are rounded to a 4,096th, states to whole
numbers."""


def stream_bytes(form: NumberFormat) -> int:
    """What the stream of a tensor takes in a coded file beside the bits of its symbols, at most.

    That is what it says of itself, and if it is coded the first lane, the frequencies, and some to spare where those
    are rounded another way.
    """
    return STREAM_BYTES + LANE_BYTES + 2 * len(form.grid) + 20 if form.coded else STREAM_BYTES


def coded_bits(counts: npt.NDArray[np.int64]) -> float:
    """The bits that rANS takes of symbols that occur so often, but for what `stream_bytes` counts.

    `counts`: of the integers from the least to the greatest, [2 * highest + 1], 0 in the middle. As many are taken to
    be below 0 as above, which is the most that any signs of theirs can take: norms may turn channels round.
    """
    even = (counts + counts[::-1]) / 2
    whole = np.ceil(even).astype(np.int64)
    return 8.0 * (rans.body_bytes(whole) - 2 * len(whole) - LANE_BYTES)


def mask_bytes(count: npt.NDArray[np.float64], kept: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Bound what a mask takes in a coded file that tells which `kept` of `count` numbers are stored, wherever they lie.

    As it is, or by rANS four bits at a time: the entropy of four together is at most that of each alone, and that of
    each at most the binary entropy of the share that is kept. It never falls when more is kept, or there is more.
    """
    share = np.minimum(kept, count / 2) / np.maximum(count, 1)
    left = 1 - share
    entropy = -share * np.log2(np.where(share > 0, share, 1)) - left * np.log2(left)
    lanes = np.ceil(count / (4 * LANE))
    coded = np.ceil(count * (entropy + _LOST_BITS) / 8) + 4 * lanes + _TABLE_BYTES
    bound: npt.NDArray[np.float64] = np.minimum(np.ceil(count / 8), coded) + MASK_BYTES
    return bound


def fits(integers: Tensor, form: NumberFormat, there: Tensor | None = None) -> bool:
    """Whether `integers`, of any shape, are coded in the bits of `form`; of those `there` only, bool in their shape."""
    found = integers if there is None else integers[there]
    return coded_bits(counts_of(found, form)) <= form.stored_bits * found.numel()


def counts_of(integers: Tensor, form: NumberFormat) -> npt.NDArray[np.int64]:
    """How often each integer of `form` occurs: [2 * highest + 1], 0 in the middle."""
    places = (integers.reshape(-1) + form.highest).to(torch.int64)
    return torch.bincount(places, minlength=2 * form.highest + 1).numpy()
