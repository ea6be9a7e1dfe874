"""What an entropy code takes of integers before they are written, and whether that is within the bits of a format."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from search_spaces.codecs import rans
from search_spaces.codecs.number_formats import NumberFormat

LANE_BYTES = 6
"""What the first lane of a stream takes, however few symbols it has."""
MASK_BYTES = 8
"""The same of a mask that is written at fixed length in a coded file."""


def stream_bytes(form: NumberFormat) -> int:
    """What the coded stream of a tensor takes beside the bits of its symbols, at most.

    That is 6 bytes, the first lane, the frequencies, and some to spare where those are rounded another way.
    """
    return 6 + LANE_BYTES + 2 * len(form.grid) + 20 if form.coded else 0


def coded_bits(counts: npt.NDArray[np.int64]) -> float:
    """The bits that rANS takes of symbols that occur so often, but for what `stream_bytes` counts.

    `counts`: of the integers from the least to the greatest, [2 * highest + 1], 0 in the middle. As many are taken to
    be below 0 as above, which is the most that any signs of theirs can take: norms may turn channels round.
    """
    even = (counts + counts[::-1]) / 2
    whole = np.ceil(even).astype(np.int64)
    return 8.0 * (rans.body_bytes(whole) - 2 * len(whole) - LANE_BYTES)


def fits(integers: Tensor, form: NumberFormat, there: Tensor | None = None) -> bool:
    """Whether `integers`, of any shape, are coded in the bits of `form`; of those `there` only, bool in their shape."""
    found = integers if there is None else integers[there]
    return coded_bits(counts_of(found, form)) <= form.stored_bits * found.numel()


def counts_of(integers: Tensor, form: NumberFormat) -> npt.NDArray[np.int64]:
    """How often each integer of `form` occurs: [2 * highest + 1], 0 in the middle."""
    places = (integers.reshape(-1) + form.highest).to(torch.int64)
    return torch.bincount(places, minlength=2 * form.highest + 1).numpy()
