"""The price sheet: for each weight tensor what it reads, makes and takes, from which every cost is computed.

A sheet is of one network, or of many that are priced at once: then every array of it that is not the same for all has
one more axis, in front, and so has every cost. All arithmetic is of single numbers, or sums of whole ones, so that a
cost is the same to the last digit either way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Protocol

import numpy as np

Cost = float | np.ndarray
"""Of one network, or of each of many: [n]."""


@dataclass(frozen=True)
class Pieces:
    """The products that each site is computed as, a row a site, a column a piece; an absent piece makes 0.

    A piece multiplies `read` values by `taps` weights each for each of `made` results, at `positions` positions a
    sample (over all its uses, 0 if all of them are gone). A whole layer is one piece.
    """

    read: np.ndarray
    """[n_sites, n_pieces]; of a grouped convolution the channels that one group reads."""
    made: np.ndarray
    taps: np.ndarray
    positions: np.ndarray
    """[n_sites]."""
    spread: np.ndarray | None = None
    """At how many positions each piece is for one of its site's: [n_sites, n_pieces]; None: at one."""

    @cached_property
    def macs(self) -> np.ndarray:
        """How many multiply-accumulates each site takes in all its pieces: [n_sites]."""
        totals = self.totals if self.spread is None else (self.weights * self.spread).sum(axis=-1)
        macs: np.ndarray = totals * self.positions
        return macs

    @cached_property
    def weights(self) -> np.ndarray:
        """How many weights each piece has: [n_sites, n_pieces]."""
        weights: np.ndarray = self.read * self.made * self.taps
        return weights

    @cached_property
    def totals(self) -> np.ndarray:
        """How many weights each site has in all its pieces: [n_sites]."""
        weights = self.weights
        totals: np.ndarray = weights[..., 0] if weights.shape[-1] == 1 else weights.sum(axis=-1)
        return totals


@dataclass(frozen=True)
class Presence:
    """Which terms count where calls are removed: 1 for those that do and 0 for others, as numbers, since most are
    factors in sums."""

    sites: np.ndarray
    """Whether any layer of a site is left: [n_sites]."""
    uses: np.ndarray
    """[n_uses]."""
    rest: Mapping[str, np.ndarray]
    """Kind of count -> which of its terms are left: [n_terms]."""
    groups: np.ndarray
    """Whether anything that is left depends on each group: [n_groups] bool."""

    @classmethod
    def of_each(cls, found: Sequence[Presence], which: Sequence[int]) -> Presence:
        """That of many networks, each of which has the one of `found` whose place is in `which`, [n]."""
        return cls(
            np.stack([one.sites for one in found])[which],
            np.stack([one.uses for one in found])[which],
            {kind: np.stack([one.rest[kind] for one in found])[which] for kind in found[0].rest},
            np.stack([one.groups for one in found])[which],
        )

    @cached_property
    def has_site(self) -> np.ndarray:
        """The same as `sites`: [n_sites] bool."""
        return self.sites > 0


class Account(Protocol):
    """What a sheet is drawn up from: `search_spaces.pricing.terms.Terms`."""

    itemsize: np.ndarray
    whole: np.ndarray

    def sheet(self, widths: np.ndarray, presence: Presence | None = None) -> Sheet:
        """The sheet with these widths, of what is present."""

    def sizes(self, widths: np.ndarray) -> np.ndarray:
        """Of every distinct dimension: [n_dims]."""

    def pieces(self, sizes: np.ndarray, presence: Presence | None) -> Pieces:
        """The whole layers, with dimensions of these sizes."""

    def presence(self, alive: Mapping[str, bool]) -> Presence:
        """What is present where only some calls are alive."""

    def rest(self, kind: str, sizes: np.ndarray, presence: Presence | None) -> Cost:
        """What belongs to no site."""


@dataclass(frozen=True)
class Sheet:
    """What a network costs, before it is built. Operators rewrite it one after the other; metrics read it.

    What follows from widths and presence is worked out when it is first read: an operator that is followed by one that
    changes them again costs nothing.
    """

    terms: Account
    widths: np.ndarray
    """[n_groups]."""
    presence: Presence | None
    """None: nothing is removed."""
    split: Pieces | None = None
    """The pieces of which some are parts of layers; None: each layer is whole."""
    numbers: np.ndarray | None = None
    """How many weights of each piece are not zero: [n_sites, n_pieces]; None: all."""
    zeros: float = 0.0
    """How many parameters that belong to no site are zero, and count as gone."""
    bits: np.ndarray | None = None
    """Of each weight of a site, as the operand of a multiply-accumulate: [n_sites]; None: those of its type."""
    input_bits: np.ndarray | None = None
    """Of what each site reads, as the other operand: [n_sites]; None: those of floating point."""
    formats: np.ndarray | None = None
    """The number format of each site, by its level, 32 for floating point: [n_sites]; None: none has another."""

    def changed(self, **found: Any) -> Sheet:
        """The same with these fields changed; `dataclasses.replace`, which took a fifth of a cost's time, in short."""
        new = object.__new__(Sheet)
        mine = self.__dict__
        new.__dict__.update({name: mine[name] for name in _FIELDS}, **found)
        return new

    @cached_property
    def sizes(self) -> np.ndarray:
        """Of every distinct dimension: [n_dims]."""
        return self.terms.sizes(self.widths)

    @cached_property
    def pieces(self) -> Pieces:
        """The products that each site is computed as."""
        return self.terms.pieces(self.sizes, self.presence) if self.split is None else self.split

    @property
    def stored(self) -> np.ndarray:
        """How many weights of each site are counted where its layer is there: [n_sites]."""
        return self.pieces.totals if self.numbers is None else self.numbers.sum(axis=-1)

    def summed(self, values: np.ndarray) -> Cost:
        """The sum of `values`, [n_sites], over the sites that are there."""
        return values.sum(axis=-1) if self.presence is None else dot(values, self.presence.sites)

    def rest(self, kind: str) -> Cost:
        """What belongs to no site: multiply-accumulates, parameters, bytes of tensors or of the header."""
        return self.terms.rest(kind, self.sizes, self.presence)


def dot(values: np.ndarray, there: np.ndarray) -> Cost:
    """The sum of `values`, [..., n], over what is `there`, [..., n]."""
    total: Cost = values @ there if values.ndim == there.ndim == 1 else (values * there).sum(axis=-1)
    return total


_FIELDS = tuple(field.name for field in fields(Sheet))
