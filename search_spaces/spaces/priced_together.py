"""Many networks of one space at once: their price sheets, and the one form of the levels of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from search_spaces.operators.base import Operator
from search_spaces.pricing.sheet import Sheet

MANY = 4
"""From how many networks on they are quicker at once than one after the other."""
CHUNK = 256
"""How many have one sheet: arrays of more do not stay in a processor's cache."""


class AtOnce:
    """Prices networks `CHUNK` at a time, operator after operator; the last that were asked for are remembered."""

    def __init__(self, whole: Sheet, operators: Sequence[Operator], places: Sequence[np.ndarray]) -> None:
        """`whole`: of the original; `places`: for each operator the positions of its knobs among all."""
        self._whole, self._steps = whole, list(zip(operators, places, strict=True))
        self._last: tuple[bytes, list[list[Sheet]]] = (b"", [])

    def sheets(self, levels: np.ndarray) -> Iterator[Sheet]:
        """The price sheets of the networks at `levels`, [n, n_knobs], `CHUNK` of them in each."""
        return (stages[-1] for stages in self._stages(levels))

    def canonical(self, levels: np.ndarray) -> np.ndarray:
        """For each network the one form of all levels that make it: `levels` and result [n, n_knobs]."""
        out = levels.copy()
        for start, stages in zip(range(0, len(levels), CHUNK), self._stages(levels), strict=True):
            some = out[start : start + CHUNK]
            for (operator, places), before in zip(self._steps, stages, strict=False):
                some[:, places] = operator.canonical(before, some[:, places])
        return out

    def _stages(self, levels: np.ndarray) -> list[list[Sheet]]:
        """Of each chunk the price sheets before all operators and after each: [n_chunks][n_operators + 1]."""
        key = levels.tobytes()
        if self._last[0] != key:
            self._last = key, [self._priced(levels[i : i + CHUNK]) for i in range(0, len(levels), CHUNK)]
        return self._last[1]

    def _priced(self, levels: np.ndarray) -> list[Sheet]:
        widths = np.broadcast_to(self._whole.widths, (len(levels), len(self._whole.widths)))
        sheets = [self._whole.changed(widths=widths)]
        for operator, places in self._steps:
            sheets.append(operator.price(sheets[-1], levels[:, places]))
        return sheets
