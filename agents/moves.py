"""Small steps between Points: one knob cut until limits hold, one knob's budget handed to another."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence

import numpy as np

from search_spaces import Point, Space

FINEST = 0.01
"""The finest step drawn, as a part of a knob's levels."""


def within(space: Space, levels: Sequence[int], limits: Mapping[str, float]) -> bool:
    """Whether the network at `levels` ([n_knobs]) exceeds no limit."""
    return space.within(np.asarray(levels), limits)


def cut(space: Space, levels: Sequence[int], t: int, limits: Mapping[str, float]) -> list[int]:
    """`levels` with knob `t` lowered until no limit is exceeded, or to its lowest level if that is not enough."""
    legal = [level for level in space.knobs[t].levels if level <= levels[t]]
    out = list(levels)

    def exceeds(level: int) -> bool:
        out[t] = level
        return not within(space, out, limits)

    out[t] = legal[max(bisect_right(legal, False, key=exceeds) - 1, 0)]
    return out


def exchange(
    space: Space, point: Point, limits: Mapping[str, float], rng: np.random.Generator, strength: float
) -> Point:
    """A neighbour of `point`, on the budget as `point` is: one knob falls for another to rise.

    One of the two, drawn evenly, takes a step: log-uniform between `FINEST` and `strength` of the knob's number of
    levels, and at least one level, so that most steps are fine and some are wide. The other gives or takes what that
    step is worth. Where it cannot, and for what rounding leaves over, all knobs step in; they stay where they are
    otherwise. Without limits, one knob takes a step and no other moves. If nothing can move, `point` itself comes back.
    """
    knobs = space.knobs
    levels = [point[knob.name] for knob in knobs]
    step = strength * (FINEST / strength) ** rng.random()
    fallers = [t for t, knob in enumerate(knobs) if levels[t] > knob.levels[0]]
    risers = [t for t, knob in enumerate(knobs) if levels[t] < knob.levels[-1]]
    if not limits:
        moves = [(t, -step) for t in fallers] + [(t, step) for t in risers]
        if moves:
            t, by = moves[int(rng.integers(len(moves)))]
            levels[t] = _moved(knobs[t].levels, levels[t], by)
        return space.point(levels)
    if not fallers or not risers:
        return point
    faller = int(rng.choice(fallers))
    riser = int(rng.choice([t for t in risers if t != faller] or risers))
    keeps = np.array([knob.keep(level) for knob, level in zip(knobs, levels, strict=True)])
    wanted = keeps * rng.uniform(1.0, 1.01, len(knobs))  # equals rise in random order, not in that of the knobs
    if rng.random() < 0.5:
        levels[faller] = _moved(knobs[faller].levels, levels[faller], -step)
        wanted[faller] = knobs[faller].keep(levels[faller])
        wanted[riser] = np.inf
    else:
        levels[riser] = _moved(knobs[riser].levels, levels[riser], step)
        others = [int(t) for t in rng.permutation(len(knobs)) if t not in (faller, riser)]
        for t in (faller, *others, riser):
            if within(space, levels, limits):
                break
            levels = cut(space, levels, t, limits)
    return space.fill(levels, wanted, limits)


def _moved(legal: Sequence[int], level: int, step: float) -> int:
    """The level that is `step` of all `legal` ones further up (or down, if negative), at least one."""
    by = max(round(abs(step) * len(legal)), 1)
    position = legal.index(level) + (by if step > 0 else -by)
    return legal[min(max(position, 0), len(legal) - 1)]
