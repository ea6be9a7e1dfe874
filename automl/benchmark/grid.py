"""Every choice of a space between two costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from search_spaces import CostedSpace


def choices(
    space: CostedSpace,
    within: Mapping[str, float],
    above: Mapping[str, float] | None = None,
    *,
    full: bool = False,
) -> Iterator[tuple[int, ...]]:
    """The levels, in knob order, of every Point that costs at most `within` and at least `above`; sorted.

    With `full` only those that use `within` up: no knob can rise. Walks the knobs in order and leaves a branch as
    soon as its smallest choice exceeds a limit, or its largest does not reach `above`, since costs never fall.
    """
    floors = above or {}
    levels = space.lowest.copy()

    def reaches(at: np.ndarray) -> bool:
        return all(space.cost_of_levels(at, metric) >= floor for metric, floor in floors.items())

    def walk(t: int) -> Iterator[tuple[int, ...]]:
        if t == len(space.knobs):
            if not full or not _can_rise(space, levels, within):
                yield tuple(levels.tolist())
            return
        for level in space.knobs[t].levels:
            levels[t:] = space.lowest[t:]
            levels[t] = level
            if not space.within(levels, within):
                break
            if reaches(np.concatenate([levels[: t + 1], space.highest[t + 1 :]])):
                yield from walk(t + 1)

    yield from walk(0)


def _can_rise(space: CostedSpace, levels: np.ndarray, within: Mapping[str, float]) -> bool:
    """Whether some knob can rise by one level."""
    for t, knob in enumerate(space.knobs):
        position = knob.levels.index(int(levels[t])) + 1
        if position < len(knob.levels):
            raised = levels.copy()
            raised[t] = knob.levels[position]
            if space.within(raised, within):
                return True
    return False
