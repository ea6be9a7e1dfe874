"""Latents as few bits: uniform levels, and an entropy code whose table is that of the training set.

Dupont et al. 2022, "COIN++", arXiv 2201.12904, section 3.3 and the authors' code: 2^bits levels from 3 deviations below
the mean of all training latents to 3 above; their histogram over the training set, each level at least once, is the
table, which stands with the shared network and not with each signal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from automl.signals.latent_reader import PRECISION, symbols_of
from search_spaces.codecs.rans import frequencies_of

Latents = npt.NDArray[np.float32]
"""[signals, latent]"""
Symbols = npt.NDArray[np.int64]
"""Places among the levels."""
DEVIATIONS = 3.0


@dataclass(frozen=True)
class LatentCode:
    """The levels of latents, and how often each was taken by the training set."""

    levels: npt.NDArray[np.float32]
    """Ascending, equally far apart: [2^bits]."""
    frequencies: Symbols
    """Whole numbers of at least 1 that add up to 2^12: [2^bits]."""

    @classmethod
    def of(cls, latents: Latents, bits: int) -> LatentCode:
        """The code of `bits` that the latents of a training set, [signals, latent], ask for."""
        mean, deviation = np.float64(latents.mean()), np.float64(latents.std())
        levels = np.linspace(mean - DEVIATIONS * deviation, mean + DEVIATIONS * deviation, 1 << bits)
        code = cls(levels.astype(np.float32), np.ones(len(levels), dtype=np.int64))
        counts = np.bincount(code.symbols(latents).reshape(-1), minlength=len(levels))
        return cls(code.levels, frequencies_of(np.maximum(counts, 1)))

    def symbols(self, latents: Latents) -> Symbols:
        """The nearest level of each number, the outermost for what lies beyond: in the shape of `latents`."""
        low, high = np.float64(self.levels[0]), np.float64(self.levels[-1])
        places = (latents - low) / max(high - low, np.finfo(np.float64).tiny) * (len(self.levels) - 1)
        found: Symbols = np.rint(places.clip(0, len(self.levels) - 1)).astype(np.int64)
        return found

    def latents(self, symbols: Symbols) -> Latents:
        """The levels that symbols stand for."""
        return self.levels[symbols]

    def encode(self, symbols: Symbols) -> bytes:
        """The symbols, [n], as the bytes of one whole number: at most 20 bits more than `bits_of` says.

        It is the state of rANS (Duda 2013, arXiv 1311.2540, section 3), from which nothing is taken out on the way:
        a stream would end with a state of 4 bytes, and some hundred symbols are a number of some hundred bytes.
        """
        before = np.cumsum(self.frequencies) - self.frequencies
        state = 1
        for symbol in reversed(symbols.tolist()):  # what is read last is written first
            whole, rest = divmod(state, int(self.frequencies[symbol]))
            state = (whole << PRECISION) + rest + int(before[symbol])
        return state.to_bytes(-(-state.bit_length() // 8), "little")

    def decode(self, body: bytes, count: int) -> Symbols:
        """The `count` symbols that `encode` wrote. Errors: `ValueError` if those are not what `body` holds."""
        return symbols_of(body, self.frequencies, count)

    def bits_of(self, symbols: Symbols) -> float:
        """The bits that the code takes for `symbols` on the mean, before they are rounded up to bytes."""
        return float((PRECISION - np.log2(self.frequencies[symbols])).mean())
