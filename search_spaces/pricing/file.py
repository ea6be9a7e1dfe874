"""How many bytes the network's file takes, before it is written: an upper bound that never falls when a level rises."""

from __future__ import annotations

from functools import reduce
from typing import Protocol

import numpy as np
from torch import fx

from search_spaces.pricing.layout import Layout, Original
from search_spaces.pricing.lines import factor_lines
from search_spaces.pricing.metrics import whole_number
from search_spaces.pricing.overhead import FRAME_BYTES
from search_spaces.pricing.sheet import Cost, Sheet
from search_spaces.pricing.storage import Storage
from search_spaces.pricing.terms import Terms


class File(Protocol):
    """What a network's file takes."""

    def bytes(self, sheet: Sheet) -> Cost:
        """An upper bound of its length."""


class PlainFile:
    """An ordinary safetensors file: every tensor as it is."""

    def __init__(self, terms: Terms, storage: Storage) -> None:
        self._factors = factor_lines(terms, storage.parts)

    def bytes(self, sheet: Sheet) -> Cost:
        """Its tensors to the byte, and a header that is never longer than theirs in the original network."""
        sites = sheet.summed(sheet.stored * sheet.terms.itemsize + self._factors)
        return whole_number(sites + sheet.rest("bytes") + sheet.rest("header")) + FRAME_BYTES


class PackedFile:
    """A packed file (`search_spaces.codecs`): the shorter of its layouts, as whoever writes it takes the shorter."""

    def __init__(self, terms: Terms, network: fx.GraphModule, storage: Storage) -> None:
        original = Original.of(terms, network, storage)
        if any(form.coded for form in storage.formats):  # which the other layout has no place for
            layouts: tuple[bool, ...] = (True,)
        else:
            layouts = (False, True) if storage.masked or storage.pruned else (False,)
        self._layouts = tuple(Layout(terms, original, storage, coded=coded) for coded in layouts)

    def bytes(self, sheet: Sheet) -> Cost:
        """The bytes of the shorter layout."""
        return reduce(np.minimum, (layout.bytes(sheet) for layout in self._layouts))


def file_of(terms: Terms, network: fx.GraphModule, storage: Storage) -> File:
    """The file of a network whose operators ask for `storage`."""
    return PackedFile(terms, network, storage) if storage.packed else PlainFile(terms, storage)
