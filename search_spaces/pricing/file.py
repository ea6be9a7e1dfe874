"""How many bytes the network's file takes, before it is written: an upper bound that never falls when a level rises.

Of a layer that may be factorised the lines of both factors in the file's header are always counted, and where a form
has overhead (lines, scales) the whole layer is charged that of two factors, so that no factorisation costs more than
the whole. That is a few hundred bytes a layer, and none where neither ranks nor number formats are searched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Protocol

import numpy as np
from torch import Tensor, fx

from search_spaces.codecs import integers
from search_spaces.codecs.bitmask import PackedSize, packed_sizes, stored
from search_spaces.codecs.header import frame_bytes
from search_spaces.graph.tensors import state_of
from search_spaces.pricing.metrics import FLOAT_BITS
from search_spaces.pricing.overhead import FRAME_BYTES, header_bytes
from search_spaces.pricing.sheet import Sheet
from search_spaces.pricing.terms import Terms


@dataclass(frozen=True)
class Storage:
    """What operators ask of the file."""

    masked: bool = False
    """Whether weights may be zero, and stored with a bit mask."""
    coded: tuple[int, ...] = ()
    """The sites whose weights may be integers."""
    factored: Mapping[int, float] = field(default_factory=dict)
    """Site that may be factorised -> the largest share of its break-even rank."""
    untouched: bool = True
    """Whether every tensor but those of the operators is still the original's, zeros included."""

    @property
    def packed(self) -> bool:
        """Whether the file is a packed one, in which each tensor has the cheapest form that holds it."""
        return self.masked or bool(self.coded)


AS_IT_IS = Storage()


class File(Protocol):
    """What a network's file takes."""

    def bytes(self, sheet: Sheet) -> float:
        """An upper bound of its length."""


class PlainFile:
    """An ordinary safetensors file: every tensor as it is."""

    def __init__(self, terms: Terms, storage: Storage) -> None:
        self._factors = _factor_lines(terms, storage)

    def bytes(self, sheet: Sheet) -> float:
        """Its tensors to the byte, and a header that is never longer than theirs in the original network."""
        tensors = float(sheet.stored.sum(axis=1) @ sheet.terms.itemsize)
        there = self._factors if sheet.presence is None else self._factors[sheet.presence.sites]
        header = sheet.rest("header") + float(there.sum())
        return float(np.rint(tensors + sheet.rest("bytes") + header)) + FRAME_BYTES


class PackedFile:
    """A packed file (`search_spaces.codecs`): each tensor in its cheapest form, lines of the header included."""

    def __init__(self, terms: Terms, network: fx.GraphModule, storage: Storage) -> None:
        state = state_of(network)
        sizes = packed_sizes(state)
        numbers = {name: int(stored(tensor).sum()) for name, tensor in state.items()}
        self._storage = storage
        self._frame = frame_bytes(integers=bool(storage.coded))
        self._itemsize = terms.itemsize[:, None]
        self._most = np.array([numbers[name] for name in terms.names], dtype=float)[:, None]
        """How many numbers of each whole site are not zero: [n_sites, 1]."""
        whole = np.array([state[name].numel() for name in terms.names], dtype=float)
        dense = np.array([sizes[name].dense for name in terms.names]) - whole * terms.itemsize
        masked = np.array([sizes[name].packed_empty for name in terms.names]) - np.ceil(whole / 8)
        self._line = dense + _factor_lines(terms, storage)
        """Of each site in the header, whatever its form: [n_sites]."""
        self._mask_more = (masked - dense)[:, None]
        """What values and mask take beside that: [n_sites, 1]."""
        self._find_integers(terms, storage, dense, sum(tensor.nbytes for tensor in state.values()))
        self._more = np.array(_rest_lines(terms, sizes, numbers, state))
        """What each tensor that belongs to no site takes beside its numbers: [n_rest]."""

    def _find_integers(self, terms: Terms, storage: Storage, dense: np.ndarray, end: int) -> None:
        """Find what integers take beside the line of the tensor as it is, and the lines of scales."""
        n = len(terms.names)
        self._coded, self._factored, self._top = (np.zeros((n, 1)) for _ in range(3))
        self._int_more, self._both_more = np.zeros((n, 1)), np.zeros((n, 1))
        for site, top in storage.factored.items():
            self._factored[site], self._top[site] = 1.0, top
        end += 8 * sum(tensor.shape[0] for tensor in terms.tensors)  # scales
        for site in storage.coded:
            factor = "0." if site in storage.factored else ""
            name = f"{terms.names[site].removesuffix('weight')}{factor}weight"
            size = integers.bound(name, terms.tensors[site].shape, end)
            self._coded[site] = 1.0
            self._int_more[site] = size.lines - dense[site]
            self._both_more[site] = size.masked_lines - dense[site]
            self._line[site] += size.scale_line * (2 if factor else 1)

    def bytes(self, sheet: Sheet) -> float:
        """The cheapest form of each piece, with as many numbers as the sheet has."""
        weights = sheet.pieces.weights  # [n_sites, n_pieces]
        numbers = weights if sheet.numbers is None else sheet.numbers
        if sheet.numbers is None and self._storage.untouched:
            numbers = np.minimum(numbers, self._most)
        # A whole layer that could be factorised is charged the overhead of two factors.
        alone = weights[:, 1:2] == 0 if weights.shape[1] > 1 else np.ones((len(weights), 1), dtype=bool)
        times = 1.0 + self._factored * alone
        spare = 2 * self._factored * alone
        least = weights * self._itemsize
        if self._storage.masked or self._storage.untouched:
            masked = times * self._mask_more + spare + np.ceil(weights / 8) + numbers * self._itemsize
            least = np.minimum(least, np.where(weights > 0, masked, 0))
        if sheet.bits is not None:
            least = self._with_integers(least, sheet.bits[:, None], weights, numbers, times, spare)
        sites = least.sum(axis=1) + self._line + self._scales(sheet, alone)
        if sheet.presence is not None:
            sites = sites[sheet.presence.sites]
        more = self._more if sheet.presence is None else self._more[sheet.presence.rest["bytes"]]
        return float(np.rint(sites.sum() + sheet.rest("bytes") + more.sum())) + self._frame

    def _with_integers(
        self,
        least: np.ndarray,
        bits: np.ndarray,
        weights: np.ndarray,
        numbers: np.ndarray,
        times: np.ndarray,
        spare: np.ndarray,
    ) -> np.ndarray:
        """`least`, or integers, whole or with a mask, where they are cheaper: [n_sites, n_pieces]."""
        whole = times * self._int_more + spare + np.ceil(weights * bits / 8)
        if self._storage.masked:
            both = times * self._both_more + spare + np.ceil(weights / 8) + np.ceil(numbers * bits / 8)
            whole = np.minimum(whole, both)
        return np.where((bits < FLOAT_BITS) & (self._coded > 0) & (weights > 0), np.minimum(least, whole), least)

    def _scales(self, sheet: Sheet, alone: np.ndarray) -> np.ndarray:
        """Four bytes for each output channel of each piece that may be integers: [n_sites]."""
        if not self._storage.coded:
            return np.zeros(len(alone))
        pieces = sheet.pieces
        read, made = (pieces.read[:, :1] * pieces.taps[:, :1]), pieces.made[:, :1]
        between = np.floor(self._top * read * made / np.maximum(read + made, 1)) * alone
        channels = pieces.made.sum(axis=1, keepdims=True) + np.maximum(between, self._factored * alone)
        scales: np.ndarray = (4 * self._coded * channels)[:, 0]
        return scales


def _rest_lines(
    terms: Terms, sizes: Mapping[str, PackedSize], numbers: Mapping[str, int], state: Mapping[str, Tensor]
) -> list[float]:
    """What each tensor that belongs to no site takes beside its numbers: [n_rest].

    A tensor outside the state dict is in no file; one that no width touches has its cheapest form.
    """
    more = []
    for name, taken, constant in zip(terms.rest_names, *terms.rest_of("bytes"), strict=True):
        if name not in sizes:
            more.append(-float(taken))
        elif constant:
            more.append(float(sizes[name].least(numbers[name]) - taken))
        else:
            more.append(float(sizes[name].dense - state[name].nbytes))
    return more


def _factor_lines(terms: Terms, storage: Storage) -> np.ndarray:
    """What the header's lines of both factors take more than that of the whole tensor: [n_sites]."""
    more = np.zeros(len(terms.names))
    for site in storage.factored:
        name, shape = terms.names[site], terms.tensors[site].shape
        layer = name.removesuffix("weight")
        small = (*shape[:2], *(1 for _ in shape[2:]))
        lines = header_bytes({f"{layer}0.weight": shape, f"{layer}1.weight": small, "rest": (prod(shape),)})
        more[site] = lines[f"{layer}0.weight"] + lines[f"{layer}1.weight"] + 2 - header_bytes({name: shape})[name]
        more[site] = max(more[site], 0.0) + 8  # offsets may be longer by a digit each
    return more


def file_of(terms: Terms, network: fx.GraphModule, storage: Storage) -> File:
    """The file of a network whose operators ask for `storage`."""
    return PackedFile(terms, network, storage) if storage.packed else PlainFile(terms, storage)
