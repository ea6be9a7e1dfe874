"""What layers cost that may become several in a row, and at which ranks those take what the layer takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from search_spaces.pricing.sheet import Pieces

NOTHING, ONE, READ, FIRST, SECOND, MADE = range(6)
"""What a part may read or make: no channel (there is no such part), a channel for each that it makes, those that the
layer reads, the first or second rank, those that the layer makes."""


@dataclass(frozen=True)
class Row:
    """The parts of one layer, in the order in which they are called: a tuple each, [n_parts]."""

    reads: tuple[int, ...]
    """Which of the above each reads."""
    makes: tuple[int, ...]
    taps: tuple[float, ...]
    spread: tuple[float, ...]
    """At how many positions each is for one of the layer."""

    @property
    def two_ranks(self) -> bool:
        """Whether the channels between its parts have two numbers."""
        return SECOND in self.makes


WHOLE = Row((), (), (), ())
"""Of a layer that stays whole."""


@dataclass(frozen=True)
class Parts:
    """The parts that each site may have: arrays of [n_sites, n_parts], 0 where a row is shorter.

    The ranks follow from a share of what the layer takes. They never fall when the share or a width rises, and parts
    never take more than the whole layer does where none `is_dearer`. With one rank r that is the share of the rank at
    which parts take as much as the layer. With two ranks a of the R channels that are read and b of the M made, of t
    taps, parts take s R a + t a b + b M, s the spread of the first. With a = g R and b = g M that is the share of t R M
    where R = M, s = 1 and g^2 + 2 g / t is the share. Where one of R and M is far larger, a is at most c t M / s and b
    at most c t R, so that the outer parts together take at most 2 c of the layer, and the middle one g^2; c leaves room
    for the largest g.
    """

    reads: np.ndarray
    makes: np.ndarray
    taps: np.ndarray
    spread: np.ndarray
    top: float
    """The largest share."""

    @classmethod
    def of(cls, rows: Sequence[Row], top: float) -> Parts:
        """Those of a row for each site."""
        width = max((len(row.makes) for row in rows), default=0)
        padded = [[(*part, *[0] * (width - len(part))) for part in (r.reads, r.makes, r.taps, r.spread)] for r in rows]
        reads, makes, taps, spread = (np.array(column) for column in zip(*padded, strict=True))
        return cls(reads, makes, taps.astype(float), spread.astype(float), top)

    @cached_property
    def count(self) -> np.ndarray:
        """How many parts each site may have: [n_sites]."""
        count: np.ndarray = (self.makes > NOTHING).sum(axis=1)
        return count

    @cached_property
    def _two(self) -> np.ndarray:
        """Whether there are two ranks: [n_sites] bool."""
        two: np.ndarray = (self.makes == SECOND).any(axis=1)
        return two

    @cached_property
    def _at_least_once(self) -> np.ndarray:
        spread: np.ndarray = np.maximum(self.spread, 1.0)
        return spread

    def pieces(self, whole: Pieces, first: np.ndarray, second: np.ndarray) -> Pieces:
        """The pieces of a network of which the first of each site in `whole` are the layers: their parts where the
        `first` rank, [n_sites], is not 0, with that and the `second`."""
        there = (first > 0)[..., None]
        widths = np.stack(
            [np.zeros_like(first), np.ones_like(first), whole.read[..., 0], first, second, whole.made[..., 0]], axis=-2
        )
        sites = np.arange(first.shape[-1])[:, None]

        def chosen(parts: np.ndarray, alone: np.ndarray) -> np.ndarray:
            found = parts * there
            found[..., :1] = np.where(there, parts[..., :1], alone[..., :1])
            return found

        return Pieces(
            read=chosen(widths[..., self.reads, sites], whole.read),
            made=chosen(widths[..., self.makes, sites], whole.made),
            taps=chosen(self.taps, whole.taps),
            positions=whole.positions,
            spread=np.where(there & (self.spread > 0), self.spread, 1.0),
        )

    def ranks(self, whole: Pieces, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The ranks at a share of each site, [..., n_sites], which may be of several levels at once: first and second,
        in its shape, and equal where there is one."""
        even = whole.weights[..., 0] / np.maximum(self._cost_of_one(whole), 1)
        first = np.maximum(1, np.floor(share * even + 1e-9))
        if not self._two.any():
            return first, first
        read, made, taps = (row[..., 0] for row in (whole.read, whole.made, whole.taps))
        most = self._room(taps) * taps
        most_read, most_made = most * made / self._at_least_once[:, 0], most * read
        ratio = _ratio(share, taps)
        a = np.maximum(1, np.floor(np.minimum(ratio * read, most_read) + 1e-9))
        b = np.maximum(1, np.floor(np.minimum(ratio * made, most_made) + 1e-9))
        b = np.minimum(b, taps * a)  # no more outputs than weights of each
        return np.where(self._two, a, first), np.where(self._two, b, first)

    def is_dearer(self, least: Pieces) -> np.ndarray:
        """Whether parts may take more than the layer, if widths are at least those of `least`: [n_sites] bool."""
        dearer: np.ndarray = least.weights[:, 0] < self._cost_of_one(least)
        if not self._two.any():
            return dearer
        read, made, taps = (row[:, 0] for row in (least.read, least.made, least.taps))
        outer, room, ratio = self._at_least_once[:, 0] / (taps * made), self._room(taps), _ratio(self.top, taps)
        # Where a rank was less than 1 and is 1, while the other is what it should be.
        dearer |= self._two & ((outer + ratio / read > 1 - room) | (1 / (taps * read) + ratio / made > 1 - room))
        return dearer

    def _room(self, taps: np.ndarray) -> np.ndarray:
        """What of a layer each of the outer parts may take, which are two with two ranks: [n_sites]."""
        room: np.ndarray = (1 - _ratio(self.top, taps) ** 2) / 2
        return room

    def _cost_of_one(self, whole: Pieces) -> np.ndarray:
        """What parts of rank 1 take, in weights at each position of the layer: [n_sites]."""
        read, made, between = self._costs
        cost: np.ndarray = whole.read[..., 0] * read + whole.made[..., 0] * made + between
        return cost

    @cached_property
    def _costs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What parts of rank 1 take for each channel read, for each made, and beside them: [n_sites] each."""
        cost = self.taps * self._at_least_once
        outer = [cost * (self.reads == READ), cost * (self.makes == MADE)]
        read, made, between = (part.sum(axis=1) for part in (*outer, cost - outer[0] - outer[1]))
        return read, made, between


def _ratio(share: np.ndarray | float, taps: np.ndarray) -> np.ndarray:
    """The g, of 0 to 1, of which g^2 + 2 g / taps is the share."""
    ratio: np.ndarray = np.sqrt(share + 1 / taps**2) - 1 / taps
    return ratio
