"""The price sheet: for each weight tensor what it reads, makes and takes, from which every cost is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Pieces:
    """The products that each site is computed as, a row a site, a column a piece; an absent piece is 0 throughout.

    A piece multiplies `read` values by `taps` weights each for each of `made` results, at `positions` positions a
    sample (over all its uses, 0 if all of them are gone). A whole layer is one piece.
    """

    read: np.ndarray
    """[n_sites, n_pieces]; of a grouped convolution the channels that one group reads."""
    made: np.ndarray
    taps: np.ndarray
    positions: np.ndarray

    @cached_property
    def weights(self) -> np.ndarray:
        """How many weights each piece has: [n_sites, n_pieces]."""
        weights: np.ndarray = self.read * self.made * self.taps
        return weights

    @cached_property
    def macs(self) -> np.ndarray:
        """Multiply-accumulates of each piece, for one sample: [n_sites, n_pieces]."""
        macs: np.ndarray = self.weights * self.positions
        return macs


@dataclass(frozen=True)
class Presence:
    """Which terms count where calls are removed."""

    sites: np.ndarray
    """Whether any layer of a site is left: [n_sites] bool."""
    uses: np.ndarray
    """[n_uses] bool."""
    rest: Mapping[str, np.ndarray]
    """Kind of count -> which of its terms are left: [n_terms] bool."""
    groups: np.ndarray
    """Whether anything that is left depends on each group: [n_groups] bool."""


class Account(Protocol):
    """What a sheet is drawn up from: `search_spaces.pricing.terms.Terms`."""

    itemsize: np.ndarray
    whole: np.ndarray

    def sheet(self, widths: np.ndarray, presence: Presence | None = None) -> Sheet:
        """The sheet with these widths, of what is present."""

    def presence(self, alive: Mapping[str, bool]) -> Presence:
        """What is present where only some calls are alive."""

    def rest(self, kind: str, sizes: np.ndarray, presence: Presence | None) -> float:
        """What belongs to no site."""


@dataclass(frozen=True)
class Sheet:
    """What a network costs, before it is built. Operators rewrite it one after the other; metrics read it."""

    terms: Account
    widths: np.ndarray
    """[n_groups]."""
    sizes: np.ndarray
    """Of every distinct dimension: [n_dims]."""
    presence: Presence | None
    """None: nothing is removed."""
    pieces: Pieces
    numbers: np.ndarray | None = None
    """How many weights of each piece are not zero: [n_sites, n_pieces]; None: all."""
    zeros: float = 0.0
    """How many parameters that belong to no site are zero, and count as gone."""
    bits: np.ndarray | None = None
    """Of each weight of a site: [n_sites]; None: those of its type."""

    @cached_property
    def stored(self) -> np.ndarray:
        """How many weights of each piece are counted, those of layers that are gone not: [n_sites, n_pieces]."""
        numbers = self.pieces.weights if self.numbers is None else self.numbers
        return numbers if self.presence is None else numbers * self.presence.sites[:, None]

    def rest(self, kind: str) -> float:
        """What belongs to no site: multiply-accumulates, parameters, bytes of tensors or of the header."""
        return self.terms.rest(kind, self.sizes, self.presence)
