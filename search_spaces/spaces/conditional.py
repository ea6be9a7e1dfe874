"""What spaces share whose blocks may go, with the widths inside them: how a budget is spent on what remains.

Gates, such as blocks that may go, come before the amounts that they let matter; what is free of cost, such as a skip,
comes last. A subclass says in `active` which knobs make a difference; a knob depends on knobs before it only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from search_spaces.spaces.wall import CostedSpace
from search_spaces.types import Kind, Point


class ConditionalSpace(CostedSpace):
    """Blocks are decided first; a budget is then spent on the amounts that are left."""

    def bounds(self, prefix: Sequence[int], limits: Mapping[str, float]) -> tuple[int, int]:
        """As for any space of costed knobs. An inactive knob has one level, and a skip, which costs nothing, both."""
        t = len(prefix)
        legal = self.knobs[t].levels
        levels = self.highest
        levels[:t] = prefix
        if not self.active(levels)[t]:
            return legal[0], legal[0]
        return (legal[0], legal[-1]) if self.knobs[t].kind == "free" else super().bounds(prefix, limits)

    def fill(self, levels: Sequence[int], wanted: np.ndarray, limits: Mapping[str, float]) -> Point:
        """Raise `levels`, which are within `limits`, until no active width can rise any more.

        A block that was removed comes back, the most wanted first, only where all that remains is whole and there is
        budget left; else a budget that another width could use would undo every removal. Skips stay as they are.
        """
        if not limits:
            return self.point(levels)
        current = self.levels(super().fill(levels, wanted, limits))
        while np.array_equal(current[self._amounts(current)], self.highest[self._amounts(current)]):
            risen = self._risen(current, wanted, limits)
            if risen is None:
                break
            current = self.levels(super().fill(risen.tolist(), wanted, limits))
        return self.point(current.tolist())

    def _risen(self, levels: np.ndarray, wanted: np.ndarray, limits: Mapping[str, float]) -> np.ndarray | None:
        """`levels` with the most wanted block back for which there is room; None if there is none."""
        active = self.active(levels)
        gone = [t for t in np.flatnonzero(self._is_a("gate") & active).tolist() if not levels[t]]
        for t in sorted(gone, key=lambda t: (-wanted[t], t)):
            risen = levels.copy()
            risen[t] = 1
            if self.within(risen, limits):
                return risen
        return None

    def _amounts(self, levels: np.ndarray) -> np.ndarray:
        """The active widths."""
        amounts: np.ndarray = self.active(levels) & ~self._is_a("gate", "free", "choice")
        return amounts

    def _decided(self, wanted: np.ndarray, limits: Mapping[str, float]) -> np.ndarray:
        """Blocks and skips as wanted; of the blocks the least wanted go until the narrowest network is affordable."""
        levels, blocks = self.lowest, np.flatnonzero(self._is_a("gate"))
        for t in np.flatnonzero(self._is_a("gate", "free")).tolist():
            levels[t] = self.knobs[t].nearest(float(wanted[t]))
        for t in blocks[np.argsort(wanted[blocks], kind="stable")].tolist():
            if self.within(levels, limits):
                break
            levels[t] = 0
        return self.canonical(levels)

    def _is_a(self, *kinds: Kind) -> np.ndarray:
        """Which knobs are of one of `kinds`: [n_knobs] bool."""
        return np.array([knob.kind in kinds for knob in self.knobs])
