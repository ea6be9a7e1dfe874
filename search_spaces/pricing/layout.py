"""How many bytes the tensors of a packed file take in one of its layouts: an upper bound that never falls.

A layout is one of fixed length, or one whose integers and masks are entropy coded (`search_spaces.codecs.packing`); the
header is compressed in both. Of a layer that may be factorised the lines of all factors in the file's header are always
counted, and where a form has overhead (lines, scales) the whole layer is charged that of its factors, so that no
factorisation costs more than the whole. That is a few hundred bytes a layer, and none where neither ranks nor number
formats are searched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, fx

from search_spaces.codecs import codebook, integers
from search_spaces.codecs.bitmask import PackedSize, packed_sizes, stored
from search_spaces.codecs.entropy import MASK_BYTES, mask_bytes, stream_bytes
from search_spaces.codecs.header import FOLD_BYTES, HeaderBound, Packed, frame_bytes
from search_spaces.codecs.number_formats import BY_LEVEL, NumberFormat
from search_spaces.graph.inputs import RANGE_BYTES, range_name
from search_spaces.graph.tensors import state_of
from search_spaces.pricing.lines import factor_lines, largest_shapes
from search_spaces.pricing.metrics import FLOAT_BITS, whole_number
from search_spaces.pricing.settled_norms import SettledNorms
from search_spaces.pricing.sheet import Cost, Pieces, Sheet, dot
from search_spaces.pricing.storage import Storage
from search_spaces.pricing.terms import Terms

FAR_TOO_MANY = 1e6
"""Bits of a weight in a form that is not counted with."""


@dataclass(frozen=True)
class Original:
    """The tensors of the original network, as every layout has them."""

    state: Mapping[str, Tensor]
    header: HeaderBound
    sizes: Mapping[str, PackedSize]
    numbers: Mapping[str, int]
    """How many numbers of each are not zero."""
    norms: SettledNorms

    @classmethod
    def of(cls, terms: Terms, network: fx.GraphModule, storage: Storage) -> Original:
        """Those of `network`, in a file of which operators ask for `storage`."""
        state = state_of(network)
        header = HeaderBound.compressed(state, _end(terms, state, storage))
        numbers = {name: int(stored(tensor).sum()) for name, tensor in state.items()}
        norms = SettledNorms.of(terms, network, state, storage)
        return cls(state, header, packed_sizes(state, header), numbers, norms)


class Layout:
    """One layout of a packed file: each tensor in its cheapest form, lines of the header included."""

    def __init__(self, terms: Terms, original: Original, storage: Storage, *, coded: bool) -> None:
        """`coded`: whether integers and masks are entropy coded."""
        state, header, sizes, numbers = original.state, original.header, original.sizes, original.numbers
        self._storage, self._coded = storage, coded
        grids = coded or any(Packed((), form.grid).bits is None for form in storage.formats)
        shared = any(form.centroids for form in storage.formats)
        whole_numbers = bool(storage.coded) and not shared
        self._frame = frame_bytes(
            integers=whole_numbers, grids=grids and not shared, books=shared, coded=coded, brief=bool(storage.coded)
        )
        masks = [name for name in terms.rest_names if name in state and state[name].ndim > 1] if coded else []
        self._frame += FOLD_BYTES + MASK_BYTES * len(masks)
        self._streams = _stream_bytes() if coded else np.zeros(FLOAT_BITS + 1)
        """Level -> what a stream takes beside the bits of its symbols: [FLOAT_BITS + 1]."""
        self._whole_bits, self._masked_bits = _stored_bits(pruned=storage.pruned, prunes=storage.masked)
        self._itemsize = terms.itemsize[:, None]
        self._most = np.array([numbers[name] for name in terms.names], dtype=float)[:, None]
        """How many numbers of each whole site are not zero: [n_sites, 1]."""
        whole = np.array([state[name].numel() for name in terms.names], dtype=float)
        dense = np.array([sizes[name].dense for name in terms.names]) - whole * terms.itemsize
        masked = np.array([sizes[name].packed_empty for name in terms.names]) - np.ceil(whole / 8)
        self._line = dense + np.ceil(header.share * factor_lines(terms, storage.parts))
        """Of each site in the header, whatever its form: [n_sites]."""
        self._norms = original.norms
        self._line += self._norms.lines
        self._mask_more = _Overhead((masked - dense)[:, None])
        """What values and mask take beside that and themselves."""
        self._find_integers(terms, storage, dense, header)
        self._more = np.array(_rest_lines(terms, original))
        """What each tensor that belongs to no site takes beside its numbers: [n_rest]."""
        self._rest = float(self._more.sum())
        self._last: tuple[Pieces, _Forms] | None = None

    def _find_integers(self, terms: Terms, storage: Storage, dense: np.ndarray, header: HeaderBound) -> None:
        """Find what integers take beside the line of the tensor as it is, and the lines of scales."""
        n = len(terms.names)
        self._scaled, self._parts = np.zeros(n), storage.parts
        count = np.zeros(n) if storage.parts is None else storage.parts.count
        self._further = np.maximum(count[:, None] - 1.0, 0.0)
        """How many factors beside the first each site may have: [n_sites, 1]."""
        whole, both = np.full((n, 1), np.inf), np.full((n, 1), np.inf)
        self._tables = _table_bytes(storage.formats)
        self._shared = bool(self._tables.any())
        """Whether weights may share numbers of a codebook; then `_tables` says level -> its bytes."""
        self._tabled = np.zeros(n)
        """How many codebooks each site may have: [n_sites]."""
        largest = largest_shapes(terms, storage.parts)
        for site in storage.coded:
            lines = max(int(count[site]), 1)
            factor = "0." if lines > 1 else ""
            name = f"{terms.names[site].removesuffix('weight')}{factor}weight"
            if self._shared:
                self._tabled[site] = lines
                one, masked, table = codebook.bound(name, largest[site], header)
            else:
                size = integers.bound(name, largest[site], header, storage.formats, coded=self._coded)
                one, masked, table = size.lines, size.masked_lines, size.scale_line
                self._scaled[site] = self._norms.scale_bytes
            whole[site], both[site] = one - dense[site], masked - dense[site]
            self._line[site] += table * lines
            if site in storage.quantized_inputs:
                ranges = range_name(name.removesuffix(".weight"))
                self._line[site] += (header.line(ranges, "F32", [2]) + RANGE_BYTES) * lines
        self._int_more, self._both_more = _Overhead(whole), _Overhead(both)

    def bytes(self, sheet: Sheet) -> Cost:
        """The cheapest form of each piece, with as many numbers as the sheet has."""
        forms = self._forms(sheet.pieces)
        numbers = forms.weights if sheet.numbers is None else sheet.numbers
        if sheet.numbers is None and self._storage.untouched:
            numbers = np.minimum(numbers, self._most)
        least, settled = forms.dense, np.zeros(1)
        mask = mask_bytes(forms.weights, numbers) if self._coded else forms.mask
        if self._storage.masked or self._storage.untouched:
            least = np.minimum(least, forms.masked + mask + numbers * self._itemsize)
        if sheet.formats is not None:
            level = sheet.formats[..., None]
            stream = forms.parts * self._streams[level]
            integers = forms.integers + stream + np.ceil(forms.weights * (self._whole_bits[level] / 8))
            if self._storage.masked or self._storage.pruned:
                integers = np.minimum(
                    integers, forms.both + stream + mask + np.ceil(numbers * (self._masked_bits[level] / 8))
                )
            least = np.where(level < FLOAT_BITS, np.minimum(least, integers), least)
            settled = np.where(sheet.formats < FLOAT_BITS, forms.settled, 0.0)
        tables: np.ndarray | float = 0.0
        if self._shared:
            levels = np.full(len(self._tabled), FLOAT_BITS) if sheet.formats is None else sheet.formats
            tables = self._tabled * self._tables[levels]
        sites = sheet.summed(least.sum(axis=-1) + forms.lines + tables - settled)
        rest = self._rest if sheet.presence is None else dot(self._more, sheet.presence.rest["bytes"])
        return whole_number(sites + rest + sheet.rest("bytes")) + self._frame

    def _forms(self, pieces: Pieces) -> _Forms:
        """What is the same for all formats and densities of these pieces, worked out once while they stay."""
        if self._last is None or self._last[0] is not pieces:
            self._last = pieces, self._found(pieces)
        return self._last[1]

    def _found(self, pieces: Pieces) -> _Forms:
        # A whole layer that could be factorised is charged the overhead of its factors.
        weights = pieces.weights
        further = self._further * (weights[..., 1:2] == 0) if weights.shape[-1] > 1 else self._further
        return _Forms(
            weights=weights,
            dense=weights * self._itemsize,
            parts=1 + further,
            mask=np.ceil(weights / 8),
            masked=self._mask_more.of(further),
            integers=self._int_more.of(further),
            both=self._both_more.of(further),
            lines=self._line + self._scales(pieces, further) if self._storage.coded else self._line,
            settled=self._norms.bytes(pieces) if self._storage.coded else self._norms.saved,
        )

    def _scales(self, pieces: Pieces, further: np.ndarray) -> np.ndarray:
        """The scales of the output channels of each piece that may be integers: [n_sites].

        Those of a whole layer that could be factorised are as many as its factors of the largest rank would have.
        """
        made = pieces.made.sum(axis=-1)
        if self._parts is not None:
            top = self._parts.pieces(pieces, *self._parts.ranks(pieces, np.full(made.shape, self._parts.top)))
            made = np.where(further[..., 0] > 0, top.made.sum(axis=-1), made)
        scales: np.ndarray = self._scaled * made
        return scales


class _Overhead:
    """What a form takes beside its numbers, for one piece of each site and for several: never less than nothing."""

    def __init__(self, one: np.ndarray) -> None:
        """`one`: [n_sites, 1], infinitely much where there is no such form."""
        self._one = np.maximum(one, 0.0)
        self._more = np.where(np.isfinite(one), self._one + 2, 0.0)  # a byte each where parts are rounded up

    def of(self, further: np.ndarray) -> np.ndarray:
        """`further`: how many pieces there are beside the first: [n_sites, 1]. So is what is returned."""
        overhead: np.ndarray = self._one + further * self._more
        return overhead


@dataclass(frozen=True)
class _Forms:
    """What each form of each piece takes beside its numbers: [n_sites, n_pieces], infinitely much where it has none."""

    weights: np.ndarray
    dense: np.ndarray
    """The tensor as it is, its numbers included."""
    parts: np.ndarray
    """For how many parts each piece is charged overhead: [n_sites, 1]."""
    mask: np.ndarray
    """A bit for each number."""
    masked: np.ndarray
    """Values and mask beside both."""
    integers: np.ndarray
    both: np.ndarray
    """Integers and mask beside both."""
    lines: np.ndarray
    """Of each site in the header, and its scales, whatever its form: [n_sites]."""
    settled: np.ndarray
    """What the norm behind each site need not tell if its weights are in few bits: [n_sites]."""


def _end(terms: Terms, state: Mapping[str, Tensor], storage: Storage) -> int:
    """More bytes than the tensors of any file of the space have: as they are, and scales, ranges and codebooks."""
    parts = 1 if storage.parts is None else 1 + int(storage.parts.count.sum())
    tables = (len(terms.tensors) + parts) * int(_table_bytes(storage.formats).max())
    scales = 8 * sum(tensor.shape[0] + RANGE_BYTES for tensor in terms.tensors)
    return sum(tensor.nbytes for tensor in state.values()) + scales + tables


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


def _stream_bytes() -> np.ndarray:
    """Level -> what a coded stream of a format takes beside the bits of its symbols: [FLOAT_BITS + 1]."""
    streams = np.zeros(FLOAT_BITS + 1)
    for level, form in BY_LEVEL.items():
        streams[level] = stream_bytes(form)
    return streams


def _table_bytes(formats: Sequence[NumberFormat]) -> np.ndarray:
    """Level -> the bytes of a codebook, of those `formats` that have one: [FLOAT_BITS + 1]. A weight that keeps its
    format, though it might share numbers, is charged the largest, so that sharing never makes the file larger."""
    tables = np.zeros(FLOAT_BITS + 1)
    for form in formats:
        tables[form.level] = codebook.table_bytes(form)
    tables[FLOAT_BITS] = tables.max()
    return tables


def _rest_lines(terms: Terms, original: Original) -> list[float]:
    """What each tensor that belongs to no site takes beside its numbers: [n_rest].

    A tensor outside the state dict is in no file; one that no width touches has its cheapest form.
    """
    more, sizes = [], original.sizes
    for name, taken, constant in zip(terms.rest_names, *terms.rest_of("bytes"), strict=True):
        if name not in sizes:
            more.append(-float(taken))
        elif constant:
            more.append(float(sizes[name].least(original.numbers[name]) - taken))
        else:
            more.append(float(sizes[name].dense - original.state[name].nbytes))
    return more
