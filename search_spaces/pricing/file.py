"""How many bytes the network's file takes, before it is written: an upper bound that never falls when a level rises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import fx

from search_spaces.codecs.bitmask import frame_bytes, packed_sizes, stored
from search_spaces.graph.tensors import state_of
from search_spaces.pricing.header import FRAME_BYTES
from search_spaces.pricing.sheet import Sheet
from search_spaces.pricing.terms import Terms


@dataclass(frozen=True)
class Storage:
    """What operators ask of the file."""

    packed: bool = False
    """Whether it is a packed one, in which each tensor has the cheapest form that holds it."""
    untouched: bool = True
    """Whether every tensor but those of the operators is still the original's, zeros included."""


AS_IT_IS = Storage()


class File(Protocol):
    """What a network's file takes."""

    def bytes(self, sheet: Sheet) -> float:
        """An upper bound of its length."""


class PlainFile:
    """An ordinary safetensors file: every tensor as it is."""

    def bytes(self, sheet: Sheet) -> float:
        """Its tensors to the byte, and a header that is never longer than theirs in the original network."""
        tensors = float(sheet.stored.sum(axis=1) @ sheet.terms.itemsize)
        return float(np.rint(tensors + sheet.rest("bytes") + sheet.rest("header"))) + FRAME_BYTES


class PackedFile:
    """A packed file (`search_spaces.codecs`): each tensor in its cheapest form, lines of the header included."""

    def __init__(self, terms: Terms, network: fx.GraphModule, storage: Storage) -> None:
        state = state_of(network)
        sizes = packed_sizes(state)
        numbers = {name: int(stored(tensor).sum()) for name, tensor in state.items()}
        ours = [sizes[name] for name in terms.names]
        whole = np.array([state[name].numel() for name in terms.names])
        mask = -(-whole // 8)
        self._itemsize = terms.itemsize
        self._line = np.array([size.dense for size in ours]) - whole * self._itemsize
        """Of the tensor as it is, in the header: [n_sites]."""
        self._mask_line = np.array([size.packed_empty for size in ours]) - mask
        """Of values and mask: [n_sites]."""
        self._most = np.array([numbers[name] for name in terms.names], dtype=float)
        """How many numbers of each whole site are not zero: [n_sites]."""
        self._untouched = storage.untouched
        coefficients, constant = terms.rest_of("bytes")
        least = np.array([sizes[name].least(numbers[name]) if name in sizes else 0 for name in terms.rest_names])
        lines = np.array(
            [
                sizes[name].dense - state[name].nbytes if name in sizes else -value
                for name, value in zip(terms.rest_names, coefficients, strict=True)
            ]
        )
        # A tensor outside the state dict is in no file; one that no width touches has its cheapest form.
        self._more = np.where(constant & (least > 0), least - coefficients, lines)
        """What each tensor that belongs to no site takes beside its numbers: [n_rest]."""

    def bytes(self, sheet: Sheet) -> float:
        """The cheapest form of each piece, with as many numbers as the sheet has."""
        weights, numbers = sheet.pieces.weights, sheet.stored  # [n_sites, n_pieces]
        if sheet.numbers is None and self._untouched:
            numbers = np.minimum(numbers, self._most[:, None])
        dense = self._line[:, None] + weights * self._itemsize[:, None]
        masked = self._mask_line[:, None] + np.ceil(weights / 8) + numbers * self._itemsize[:, None]
        there = weights > 0
        if sheet.presence is not None:
            there = there & sheet.presence.sites[:, None]
        sites = float((np.minimum(dense, masked) * there).sum())
        more = self._more if sheet.presence is None else self._more[sheet.presence.rest["bytes"]]
        return float(np.rint(sites + sheet.rest("bytes") + more.sum())) + frame_bytes()


def file_of(terms: Terms, network: fx.GraphModule, storage: Storage) -> File:
    """The file of a network whose operators ask for `storage`."""
    return PackedFile(terms, network, storage) if storage.packed else PlainFile()
