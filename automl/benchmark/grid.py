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

    With `full` only those that use `within` up: `space.fill` leaves them as they are. An inactive knob stands at its
    lowest level. Walks the knobs in order and leaves a branch as soon as its smallest choice exceeds a limit, or its
    largest does not reach `above`, since costs never fall.
    """
    floors, whole = above or {}, np.ones(len(space.knobs))
    levels = space.lowest.copy()

    def reaches(at: np.ndarray) -> bool:
        return all(space.cost_of_levels(at, metric) >= floor for metric, floor in floors.items())

    def walk(t: int) -> Iterator[tuple[int, ...]]:
        if t == len(space.knobs):
            if not full or space.fill(levels.tolist(), whole, within) == space.point(levels.tolist()):
                yield tuple(levels.tolist())
            return
        is_active = space.active(np.concatenate([levels[:t], space.highest[t:]]))[t]
        for level in space.knobs[t].levels if is_active else space.knobs[t].levels[:1]:
            levels[t:] = space.lowest[t:]
            levels[t] = level
            if not space.within(levels, within):
                break
            if reaches(np.concatenate([levels[: t + 1], space.highest[t + 1 :]])):
                yield from walk(t + 1)

    yield from walk(0)
