"""Widths of a network times one number, as the MobileNet papers have it."""

from __future__ import annotations


def scaled(channels: int, width: float) -> int:
    """The multiple of 8 nearest to `channels` times `width`, at least 8 and at least nine tenths of it.

    `width` is the multiplier alpha of Howard et al. 2017, section 3.3; multiples of 8 are those of the authors' code
    for MobileNetV2 (`_make_divisible`). At 1 all widths stay.
    """
    if width == 1:
        return channels
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded
