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
from search_spaces.codecs.entropy import MASK_BYTES
from search_spaces.codecs.header import Packed, frame_bytes, line_bytes
from search_spaces.codecs.number_formats import BY_LEVEL, NumberFormat
from search_spaces.graph.inputs import RANGE_BYTES, range_name
from search_spaces.graph.tensors import state_of
from search_spaces.pricing.halves import Halves, break_even, cost_between
from search_spaces.pricing.metrics import FLOAT_BITS
from search_spaces.pricing.overhead import FRAME_BYTES, header_bytes
from search_spaces.pricing.sheet import Pieces, Sheet
from search_spaces.pricing.terms import Terms


@dataclass(frozen=True)
class Storage:
    """What operators ask of the file."""

    masked: bool = False
    """Whether weights may be zero, and stored with a bit mask."""
    coded: tuple[int, ...] = ()
    """The sites whose weights may be integers."""
    formats: tuple[NumberFormat, ...] = ()
    """The formats that these may have."""
    pruned: bool = False
    """Whether weights of such formats may be 0 that has no place among their integers."""
    quantized_inputs: tuple[int, ...] = ()
    """The sites that may read numbers of 8 bits, and have a range of them."""
    factored: Mapping[int, Halves] = field(default_factory=dict)
    """The sites that may be factorised."""
    untouched: bool = True
    """Whether every tensor but those of the operators is still the original's, zeros included."""

    @property
    def packed(self) -> bool:
        """Whether the file is a packed one, in which each tensor has the cheapest form that holds it."""
        return self.masked or bool(self.coded)


AS_IT_IS = Storage()


FAR_TOO_MANY = 1e6
"""Bits of a weight in a form that is not counted with."""


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
        sites = sheet.summed(sheet.stored * sheet.terms.itemsize + self._factors)
        return float(round(sites + sheet.rest("bytes") + sheet.rest("header"))) + FRAME_BYTES


class PackedFile:
    """A packed file (`search_spaces.codecs`): each tensor in its cheapest form, lines of the header included."""

    def __init__(self, terms: Terms, network: fx.GraphModule, storage: Storage) -> None:
        state = state_of(network)
        sizes = packed_sizes(state)
        numbers = {name: int(stored(tensor).sum()) for name, tensor in state.items()}
        self._storage = storage
        coded = bool(storage.coded) and any(form.coded for form in storage.formats)
        grids = coded or any(Packed((), form.grid).bits is None for form in storage.formats)
        self._frame = frame_bytes(integers=bool(storage.coded), grids=grids, coded=coded)
        self._frame += MASK_BYTES * len(terms.rest_names) if coded else 0
        self._whole_bits, self._masked_bits = _stored_bits(pruned=storage.pruned, prunes=storage.masked)
        self._itemsize = terms.itemsize[:, None]
        self._most = np.array([numbers[name] for name in terms.names], dtype=float)[:, None]
        """How many numbers of each whole site are not zero: [n_sites, 1]."""
        whole = np.array([state[name].numel() for name in terms.names], dtype=float)
        dense = np.array([sizes[name].dense for name in terms.names]) - whole * terms.itemsize
        masked = np.array([sizes[name].packed_empty for name in terms.names]) - np.ceil(whole / 8)
        self._line = dense + _factor_lines(terms, storage)
        """Of each site in the header, whatever its form: [n_sites]."""
        self._mask_more = _Overhead((masked - dense + (MASK_BYTES if coded else 0))[:, None])
        """What values and mask take beside that."""
        self._find_integers(terms, storage, dense, sum(tensor.nbytes for tensor in state.values()))
        self._more = np.array(_rest_lines(terms, sizes, numbers, state))
        """What each tensor that belongs to no site takes beside its numbers: [n_rest]."""
        self._rest = float(self._more.sum())
        self._last: tuple[Pieces, _Forms] | None = None

    def _find_integers(self, terms: Terms, storage: Storage, dense: np.ndarray, end: int) -> None:
        """Find what integers take beside the line of the tensor as it is, and the lines of scales."""
        n = len(terms.names)
        self._four, self._factored, self._top, self._spread = (np.zeros((n, 1)) for _ in range(4))
        self._halves = np.zeros((n, 2))
        for site, halves in storage.factored.items():
            self._factored[site], self._top[site], self._spread[site] = 1.0, halves.top, halves.spread
            self._halves[site] = halves.first, halves.second
        whole, both = np.full((n, 1), np.inf), np.full((n, 1), np.inf)
        end += 8 * sum(tensor.shape[0] + RANGE_BYTES for tensor in terms.tensors)  # scales and ranges
        for site in storage.coded:
            factor = "0." if site in storage.factored else ""
            name = f"{terms.names[site].removesuffix('weight')}{factor}weight"
            shape = _largest(terms.tensors[site].shape, storage.factored.get(site))
            size = integers.bound(name, shape, end, storage.formats)
            self._four[site] = 4.0
            whole[site], both[site] = size.lines - dense[site], size.masked_lines - dense[site]
            self._line[site] += size.scale_line * (2 if factor else 1)
            if site in storage.quantized_inputs:
                ranges = range_name(name.removesuffix(".weight"))
                self._line[site] += (line_bytes(ranges, "F32", [2], end) + RANGE_BYTES) * (2 if factor else 1)
        self._int_more, self._both_more = _Overhead(whole), _Overhead(both)

    def bytes(self, sheet: Sheet) -> float:
        """The cheapest form of each piece, with as many numbers as the sheet has."""
        forms = self._forms(sheet.pieces)
        numbers = forms.weights if sheet.numbers is None else sheet.numbers
        if sheet.numbers is None and self._storage.untouched:
            numbers = np.minimum(numbers, self._most)
        least = forms.dense
        if self._storage.masked or self._storage.untouched:
            least = np.minimum(least, forms.masked + numbers * self._itemsize)
        if sheet.formats is not None:
            level = sheet.formats[:, None]
            integers = forms.integers + np.ceil(forms.weights * (self._whole_bits[level] / 8))
            if self._storage.masked or self._storage.pruned:
                integers = np.minimum(integers, forms.both + np.ceil(numbers * (self._masked_bits[level] / 8)))
            least = np.where(level < FLOAT_BITS, np.minimum(least, integers), least)
        sites = sheet.summed(least.sum(axis=1) + forms.lines)
        rest = self._rest if sheet.presence is None else self._more @ sheet.presence.rest["bytes"]
        return float(round(sites + rest + sheet.rest("bytes"))) + self._frame

    def _forms(self, pieces: Pieces) -> _Forms:
        """What is the same for all formats and densities of these pieces, worked out once while they stay."""
        if self._last is None or self._last[0] is not pieces:
            self._last = pieces, self._found(pieces)
        return self._last[1]

    def _found(self, pieces: Pieces) -> _Forms:
        # A whole layer that could be factorised is charged the overhead of two factors.
        weights = pieces.weights
        two = self._factored * (weights[:, 1:] == 0) if weights.shape[1] > 1 else self._factored
        mask = np.ceil(weights / 8)
        return _Forms(
            weights=weights,
            dense=weights * self._itemsize,
            masked=self._mask_more.of(two) + mask,
            integers=self._int_more.of(two),
            both=self._both_more.of(two) + mask,
            lines=self._line + self._scales(pieces, two) if self._storage.coded else self._line,
        )

    def _scales(self, pieces: Pieces, two: np.ndarray) -> np.ndarray:
        """Four bytes for each output channel of each piece that may be integers: [n_sites].

        Those of a whole layer that could be factorised are as many as its factors of the largest rank would have.
        """
        made, read = pieces.made[:, :1], pieces.read[:, :1]
        one = cost_between(read, made, self._halves[:, :1], self._halves[:, 1:], self._spread)
        even = break_even(read * pieces.taps[:, :1] * made, one)
        between = np.maximum(np.floor(self._top * even + 1e-9), 1) * two
        scales: np.ndarray = (self._four * (pieces.made.sum(axis=1, keepdims=True) + between))[:, 0]
        return scales


class _Overhead:
    """What a form takes beside its numbers, for one piece of each site and for two: never less than nothing."""

    def __init__(self, one: np.ndarray) -> None:
        """`one`: [n_sites, 1], infinitely much where there is no such form."""
        self._one = np.maximum(one, 0.0)
        self._more = np.where(np.isfinite(one), self._one + 2, 0.0)  # a byte each where the halves are rounded up

    def of(self, two: np.ndarray) -> np.ndarray:
        """`two`: 1 where there are two pieces, else 0: [n_sites, 1]. So is what is returned."""
        overhead: np.ndarray = self._one + two * self._more
        return overhead


@dataclass(frozen=True)
class _Forms:
    """What each form of each piece takes beside its numbers: [n_sites, n_pieces], infinitely much where it has none."""

    weights: np.ndarray
    dense: np.ndarray
    """The tensor as it is, its numbers included."""
    masked: np.ndarray
    integers: np.ndarray
    both: np.ndarray
    lines: np.ndarray
    """Of each site in the header, and its scales, whatever its form: [n_sites]."""


def _stored_bits(*, pruned: bool, prunes: bool) -> tuple[np.ndarray, np.ndarray]:
    """Level -> the bits of each weight where all are stored, and where a mask tells which are: [FLOAT_BITS + 1] each.

    Where weights may have been pruned, all are stored in a format that has 0. In an entropy code only those that were
    not pruned keep to the bits of the format; so where an operator `prunes`, too, a mask is counted with them, though a
    file without one may come out shorter.
    """
    whole, masked = (np.full(FLOAT_BITS + 1, float(FLOAT_BITS)) for _ in range(2))
    for level, form in BY_LEVEL.items():
        whole[level] = (form.with_zero if pruned else form).stored_bits
        if form.coded and (pruned or prunes):
            whole[level] = FAR_TOO_MANY
        masked[level] = form.stored_bits
    return whole, masked


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
    for site, halves in storage.factored.items():
        name, shape = terms.names[site], terms.tensors[site].shape
        layer, large = name.removesuffix("weight"), _largest(shape, halves)
        lines = header_bytes({f"{layer}0.weight": large, f"{layer}1.weight": large, "rest": (prod(large),)})
        more[site] = lines[f"{layer}0.weight"] + lines[f"{layer}1.weight"] + 2 - header_bytes({name: shape})[name]
        more[site] = max(more[site], 0.0) + 8  # offsets may be longer by a digit each
    return more


def _largest(shape: tuple[int, ...], halves: Halves | None) -> tuple[int, ...]:
    """A shape that no factor of a tensor of `shape` exceeds in any dimension; without factors `shape` itself."""
    if halves is None:
        return shape
    most = halves.most(shape[0], shape[1], prod(shape[2:]))
    return (max(shape[0], most), max(shape[1], most), *shape[2:])


def file_of(terms: Terms, network: fx.GraphModule, storage: Storage) -> File:
    """The file of a network whose operators ask for `storage`."""
    return PackedFile(terms, network, storage) if storage.packed else PlainFile(terms, storage)
