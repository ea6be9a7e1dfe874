"""An adaptive binary arithmetic code of integers, as `automl.signals.inr_reader` reads it.

It needs no table of frequencies, which of a file of some hundred bytes would be a third: the counts of every bit are
learnt while coding. Integers are told in bits like those of context-based adaptive coding (Wiedemann et al. 2020,
"DeepCABAC", arXiv 1907.11900): the number of digits in unary, the digit below the highest, the other digits, the sign.
Zeros cost what their frequency says, so that a mask needs no place of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from automl.signals.inr_reader import LOWEST_RANGE, PRECISION, SPARED, Bit, Model

MOST_DIGITS = 24
"""Binary digits of an integer: a float32 holds it."""


class Encoder:
    """A binary range encoder (Martin 1979), which keeps back what a carry may still change, as LZMA's does."""

    def __init__(self) -> None:
        self._low, self._range = 0, 0xFFFFFFFF
        self._held, self._full = b"", 0  # the last byte that is not 255, and how many of those followed
        self._out = bytearray()

    def integer(self, value: int, model: Model) -> None:
        """Code an integer and let the model learn from it."""
        size = abs(value)
        digits = size.bit_length()
        for number in range(digits):
            self._bit(1, model.longer[number])
        self._bit(0, model.longer[digits])
        for place in range(digits - 1):
            bit = size >> (digits - 2 - place) & 1
            self._bit(bit, model.second[digits] if place == 0 else None)
        if size:
            self._bit(int(value < 0), None)

    def end(self) -> bytes:
        """The stream, without zeros at its end that the reader puts there."""
        # Of all numbers in the interval the one with most zeros at its end.
        shift = self._range.bit_length() - 1
        self._low = (self._low + (1 << shift) - 1) >> shift << shift
        for _ in range(5):
            self._shift()
        out = bytes(self._out)
        return out[:-SPARED] + out[-SPARED:].rstrip(b"\0")

    def _bit(self, bit: int, known: Bit | None) -> None:
        bound = (self._range >> PRECISION) * (known.probability if known else 1 << (PRECISION - 1))
        if bit:
            self._low += bound
            self._range -= bound
        else:
            self._range = bound
        while self._range < LOWEST_RANGE:
            self._range <<= 8
            self._shift()
        if known:
            known.see(bit)

    def _shift(self) -> None:
        """Hand out the highest byte of `low`, unless it is 255 and a carry may still come."""
        carry, byte = self._low >> 32, self._low >> 24 & 0xFF
        if byte == 0xFF and not carry:
            self._full += 1
        else:
            if self._held:
                self._out.append((self._held[0] + carry) & 0xFF)
            self._out.extend([(0xFF + carry) & 0xFF] * self._full)
            self._held, self._full = bytes([byte]), 0
        self._low = (self._low << 8) & 0xFFFFFFFF


def coded(tensors: Sequence[Sequence[int]]) -> bytes:
    """The stream of the integers of several tensors, weight and bias by turns: a model each."""
    encoder, models = Encoder(), (Model(), Model())
    for number, integers in enumerate(tensors):
        for value in integers:
            encoder.integer(value, models[number % 2])
    return encoder.end()
