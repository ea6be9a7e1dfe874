"""Tensors that say little: one number all along, or numbers that bfloat16 holds, in a file beside numbers of few bits.

The norms of such a file have been moved into the scales before them, as far as that goes (`search_spaces.settled`): two
or three of their vectors are one number, which the metadata tell, and biases and scales have 16 bits each.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from search_spaces.codecs.header import Same, same_bytes
from search_spaces.codecs.reader import MOST_NUMBERS

BYTES = 2
"""Of a number in bfloat16."""


def same_of(name: str, tensor: Tensor) -> Same | None:
    """Shape and number of a tensor, float32 or int64, all of whose numbers are that one, bit for bit; else None."""
    if tensor.dtype not in (torch.float32, torch.int64) or not tensor.numel():
        return None
    flat = tensor.detach().reshape(-1)
    number = flat[0].item()
    same = (tuple(tensor.shape), number)
    if not math.isfinite(number) or (abs(number) > 2**62 and tensor.dtype == torch.int64):
        return None
    alike = bits_of(flat) if tensor.dtype == torch.float32 else flat  # 0.0 is not -0.0
    if tensor.numel() > MOST_NUMBERS * same_bytes(name, same) or not bool((alike == alike[0]).all()):
        return None  # of more a reader would refuse to believe it
    return same


def told_as_one(same: Same) -> Tensor:
    """The tensor of this shape all of whose numbers are this one."""
    shape, number = same
    return torch.full(shape, number, dtype=torch.int64 if isinstance(number, int) else torch.float32)


def is_short(tensor: Tensor) -> bool:
    """Whether bfloat16 holds the numbers of a tensor, which is in float32, bit for bit."""
    return tensor.dtype == torch.float32 and tensor.numel() > 0 and not bool((bits_of(tensor) & 0xFFFF).any())


def shortened(tensor: Tensor) -> Tensor:
    """A tensor of which `is_short` holds, in bfloat16. The bits are cut, as a conversion changes those of what is no
    number."""
    return (bits_of(tensor) >> 16).to(torch.int16).view(torch.bfloat16)


def lengthened(tensor: Tensor) -> Tensor:
    """The inverse of `shortened`."""
    return (tensor.contiguous().view(torch.int16).to(torch.int32) << 16).view(torch.float32)


def bits_of(tensor: Tensor) -> Tensor:
    """The bits of a tensor in float32, as int32."""
    return tensor.detach().contiguous().view(torch.int32)
