"""The costs that a budget may limit, each a function of the price sheet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from search_spaces.pricing.sheet import Cost, Sheet

PEAK = "peak_activation_bytes"
"""The most bytes of activations alive at once for one sample: a cost of spaces that are given it
(`search_spaces.pricing.peak`)."""
FLOAT_BITS = 32
"""Of weights, and of what layers read, that no operator has given another number format."""


def macs(sheet: Sheet) -> Cost:
    """Multiply-accumulates of convolutions, linear layers and products of tensors, for one sample."""
    return whole_number(sheet.pieces.macs.sum(axis=-1) + sheet.rest("macs"))


def params(sheet: Sheet) -> Cost:
    """Parameters; where weights are removed one by one, those that are not zero."""
    return whole_number(sheet.summed(sheet.stored) + sheet.rest("params") - sheet.zeros)


def bops(sheet: Sheet) -> Cost:
    """Bit operations for one sample: a multiply-accumulate times the bits of weight and activation."""
    bits = FLOAT_BITS if sheet.bits is None else sheet.bits
    input_bits = FLOAT_BITS if sheet.input_bits is None else sheet.input_bits
    return whole_number((sheet.pieces.macs * bits * input_bits).sum(axis=-1) + FLOAT_BITS**2 * sheet.rest("macs"))


def whole_number(cost: Cost) -> Cost:
    """The whole number that a sum of products of whole numbers is, but for rounding."""
    return np.rint(cost)


@dataclass(frozen=True)
class OfSheet:
    """A cost that is added to a space and, as the space's own costs are, read off the price sheet."""

    read: Callable[[Sheet], Cost]
    many: bool = False
    """Whether it can be read off a sheet of many networks, too; if not, they are priced one after the other."""


METRICS: dict[str, Callable[[Sheet], Cost]] = {"macs": macs, "params": params, "bops": bops}
"""Cost -> how it is read off a sheet. Bytes are for the file to say that the network is kept in
(`search_spaces.pricing.file`)."""
