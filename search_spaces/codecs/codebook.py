"""Tensors whose numbers are those of a codebook in a packed file: how they stand there, and what they take.

A weight of [out, ...] whose every number is one of the 2 to 256 of `NAME_codebook`, float32, stands in the file as
`NAME.indices`: the place of each in the codebook, in as many bits as it takes, lowest bit first, or as a coded stream.
Where many are zero, `NAME.mask` or `NAME.gaps` tells which are not, and `NAME.indices` has those (the sparse layers of
shared weights of Han et al. 2016, "Deep Compression", with the table counted). The codebook is an ordinary tensor of
the state dict. All of it is exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from search_spaces.codecs.header import HeaderBound, Packed
from search_spaces.codecs.number_formats import NumberFormat
from search_spaces.codecs.reader import BOOK, INDICES, MASK

SIZES = tuple(1 << bits for bits in range(1, 9))
"""How many numbers a codebook may have."""


def table_bytes(form: NumberFormat) -> int:
    """What the numbers of a codebook take."""
    return 4 * form.centroids


def bound(name: str, shape: Sequence[int], header: HeaderBound) -> tuple[int, int, int]:
    """Bound the lines in the header of the tensor `name`, of this `shape` or any smaller: those of indices, of indices
    and mask, and of the codebook. `header`: of the file, codebooks included."""
    numbers = math.prod(shape)
    lines = header.line(name + INDICES, "U8", [numbers]) + header.told(name, Packed(tuple(shape), None, SIZES[-1]))
    masked = lines + header.line(name + MASK, "U8", [-(-numbers // 8)])
    return lines, masked, header.line(name + BOOK, "F32", SIZES[-1:])


def indices_of(weight: Tensor, book: Tensor) -> npt.NDArray[np.uint8] | None:
    """The place in `book` of each number of `weight`, bit for bit: [n]; None if one is not there.

    `weight`: float32, of two dimensions or more; `book`: float32, [centroids], a number of `SIZES`. Of equal centroids
    it is any.
    """
    fits = weight.dtype == book.dtype == torch.float32 and weight.ndim > 1 and book.ndim == 1 and len(book) in SIZES
    if not fits or not weight.numel():
        return None
    bits = weight.detach().contiguous().view(torch.int32).reshape(-1).numpy()
    found, order = np.unique(book.detach().contiguous().view(torch.int32).numpy(), return_index=True)
    places = np.minimum(np.searchsorted(found, bits), len(found) - 1)
    if not np.array_equal(found[places], bits):
        return None
    symbols: npt.NDArray[np.uint8] = order[places].astype(np.uint8)
    return symbols
