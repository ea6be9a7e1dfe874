"""The number formats of weights: which integers times the scale of their output channel, and what they take.

Nothing here loads torch, so that study files can be read at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class NumberFormat:
    """Integers that weights can be, times a float32 scale for each output channel, symmetric around 0; or numbers of a
    codebook that they share."""

    name: str
    level: int
    """Of the knob. From 2 up it is the bits; below, binary and ternary stand where their bytes put them."""
    grid: tuple[int, ...]
    """The integer that each symbol in a file stands for: symbol 0 the first, and so on."""
    bits: int
    """Bits of the operand of a multiply-accumulate."""
    stored_bits: float
    """Bits of a weight in a file: at fixed length, or at most in an entropy code."""
    coded: bool = False
    """Whether the integers are so chosen that an entropy code takes no more than that of them."""
    centroids: int = 0
    """Of how many numbers, shared by the weights of a layer, each weight is one; 0: weights are integers. Symbols are
    places in that codebook."""

    @property
    def has_zero(self) -> bool:
        """Whether 0 is one of the integers; else they are odd, two apart."""
        return 0 in self.grid

    @cached_property
    def highest(self) -> int:
        """The largest integer that a weight is rounded to; the least is its negative."""
        return max(self.grid)

    @property
    def with_zero(self) -> NumberFormat:
        """The smallest format that has these integers and 0."""
        return self if self.has_zero else {1: FORMATS["ternary"], 3: FORMATS["int3"]}[self.highest]


def twos_complement(bits: int) -> tuple[int, ...]:
    """The integer that each pattern of `bits` bits stands for: [2^bits]."""
    half = 1 << (bits - 1)
    return (*range(half), *range(-half, 0))


FORMATS = {
    form.name: form
    for form in (
        NumberFormat("binary", 0, (-1, 1), 1, 1.0),
        NumberFormat("ternary", 1, (0, 1, -1), 2, 1.6),  # five to a byte, as 3^5 = 243
        NumberFormat("int2", 2, (-3, -1, 1, 3), 2, 2.0),
        *(NumberFormat(f"int{bits}", bits, twos_complement(bits), bits, float(bits)) for bits in range(3, 9)),
    )
}
"""Name -> format, in the order of what they take. `binary` is that of Rastegari et al. 2016, "XNOR-Net", section 3.1
(binary weights); `int2` has four levels and no zero, which at so few bits is worth more than a zero."""

CODED = {
    form.name: form
    for form in (
        NumberFormat(f"coded{bits:g}", 8 + round(4 * bits), twos_complement(grid), grid, bits, coded=True)
        for bits, grid in ((1, 3), (1.25, 3), (1.5, 3), (1.75, 4), (2, 4), (2.5, 4), (3, 5), (4, 6), (5, 7))
    )
}
"""The same of formats that are made for an entropy code: many integers, of which those near 0 are by far the most. At
equal bytes they are nearer to the weights than integers of fixed length (Sullivan 1996, "Efficient scalar quantization
of exponential and Laplacian random variables"). Beside them no others are offered: their levels stand in an order of
their own."""

SHARED = {
    form.name: form
    for form in (
        NumberFormat(f"shared{bits}", level, tuple(range(1 << bits)), 32, float(bits), centroids=1 << bits)
        for bits, level in zip(range(1, 9), (9, 10, 11, 17, 19, 21, 22, 23), strict=True)
    )
}
"""Formats of weights that share numbers: each is one of 2 to 256 centroids of its layer, which are floats (Han et al.
2016, "Deep Compression", section 3: weight sharing). So they save bytes and no bit operations. Levels are those that no
other format has, as they are offered alone."""

ALL_FORMATS = FORMATS | CODED | SHARED

FLOAT_INPUTS = "float32"
INPUT_BITS = {FLOAT_INPUTS: 32, "int8": 8}
"""What layers read -> bits of that operand. 8-bit inputs have a scale and a zero point a layer."""

BY_LEVEL = {form.level: form for form in ALL_FORMATS.values()}
"""Level of a knob -> format."""
