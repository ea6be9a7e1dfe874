"""Latents as few bits: uniform levels, and an entropy code whose table is that of the training set.

Dupont et al. 2022, "COIN++", arXiv 2201.12904, section 3.3 and the authors' code: 2^bits levels from 3 deviations below
the mean of all training latents to 3 above; their histogram over the training set, each level at least once, is the
table, which stands with the shared network and not with each signal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from automl.signals.latent_reader import BLOCK_BITS, PRECISION, symbols_of
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
        """The symbols, [n], as bytes: at most 20 bits more than `bits_of` says.

        rANS (Duda 2013, arXiv 1311.2540, section 3) with a state of up to two blocks of `BLOCK_BITS`, the lower of
        which is taken out when it would grow beyond. The state of some hundred symbols is the whole file, so that no
        bytes of it are empty, as they are where bytes are taken out one by one; and time is linear in the symbols.
        """
        frequencies = self.frequencies.tolist()  # Python's numbers: the state outgrows all others
        before = (np.cumsum(self.frequencies) - self.frequencies).tolist()
        state, blocks = 1, []
        for symbol in reversed(symbols.tolist()):  # what is read last is written first
            if state >> (2 * BLOCK_BITS - PRECISION) >= frequencies[symbol]:
                blocks.append((state & ((1 << BLOCK_BITS) - 1)).to_bytes(BLOCK_BITS // 8, "little"))
                state >>= BLOCK_BITS
            whole, rest = divmod(state, frequencies[symbol])
            state = (whole << PRECISION) + rest + before[symbol]
        return b"".join(blocks) + state.to_bytes(-(-state.bit_length() // 8), "little")

    def decode(self, body: bytes, count: int) -> Symbols:
        """The `count` symbols that `encode` wrote. Errors: `ValueError` if those are not what `body` holds."""
        return symbols_of(body, self.frequencies, count)

    def bits_of(self, symbols: Symbols) -> float:
        """The bits that the code takes for `symbols` on the mean, before they are rounded up to bytes."""
        return float((PRECISION - np.log2(self.frequencies[symbols])).mean())
