"""Levels that rise knob by knob towards what is wanted, and which steps come next."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from heapq import heapify, heappop, heapreplace

import numpy as np

from search_spaces.types import Knob

Step = tuple[float, int]
"""How much of what is wanted a knob has, and which it is: the least rises first, of equals the first knob."""


class Rising:
    """Levels of which the knob furthest below its wanted keep fraction rises first, as long as it may."""

    def __init__(self, knobs: Sequence[Knob], levels: np.ndarray, wanted: np.ndarray, able: Sequence[int]) -> None:
        """`levels`, [n_knobs], are changed in place; `wanted`: [n_knobs], a ratio; `able`: the knobs that may rise."""
        self.levels = levels
        self._knobs, self._wanted = knobs, np.maximum(wanted, 1e-9).tolist()
        self._heap = [self._step(t, int(levels[t])) for t in able if levels[t] < knobs[t].levels[-1]]
        heapify(self._heap)

    def __bool__(self) -> bool:
        """Whether any knob may still rise."""
        return bool(self._heap)

    def _step(self, t: int, level: int) -> Step:
        return self._knobs[t].keep(level) / self._wanted[t], t

    def alone(self) -> np.ndarray:
        """The levels after a step of each knob that may rise, alone: [n, n_knobs]."""
        rows = np.repeat(self.levels[None], len(self._heap), axis=0)
        for row, (_, t) in zip(rows, self._heap, strict=True):
            row[t] = self._above(t, int(row[t]))
        return rows

    def keep(self, fits: np.ndarray) -> None:
        """Let only those rise on whose step `fits`, in the order of `alone`: [n] bool."""
        self._heap = [step for step, is_fit in zip(self._heap, fits.tolist(), strict=True) if is_fit]
        heapify(self._heap)

    def ahead(self, n: int) -> np.ndarray:
        """The levels after each of the next `n` steps, or as many as there are: [at most n, n_knobs]."""
        heap, levels = self._heap.copy(), self.levels.copy()
        rows: list[np.ndarray] = []
        while heap and len(rows) < n:
            self._rise(heap, levels)
            rows.append(levels.copy())
        return np.array(rows, dtype=np.int64).reshape(-1, len(levels))

    def go(self, n: int) -> None:
        """Take the next `n` steps."""
        for _ in range(n):
            self._rise(self._heap, self.levels)

    def stop(self) -> None:
        """Let the knob that would rise next rise no more."""
        heappop(self._heap)

    def _rise(self, heap: list[Step], levels: np.ndarray) -> None:
        """Let the first knob of `heap` rise in `levels`."""
        t = heap[0][1]
        levels[t] = self._above(t, int(levels[t]))
        if levels[t] < self._knobs[t].levels[-1]:
            heapreplace(heap, self._step(t, int(levels[t])))
        else:
            heappop(heap)

    def _above(self, t: int, level: int) -> int:
        legal = self._knobs[t].levels
        return legal[bisect_right(legal, level)]
