"""Small steps between Points: one knob cut until limits hold, one's budget handed to another, another level chosen."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence

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


def cut_all(space: Space, rows: np.ndarray, orders: np.ndarray, limits: Mapping[str, float]) -> np.ndarray:
    """Many networks' levels, [n, n_knobs], each with knobs lowered in its order until no limit is exceeded.

    What comes of `cut` for one knob of the order after the other: the first are at their lowest, the last of those
    needed is as high as it can be. That costs never fall when a level rises tells without trying each how many are
    needed. `orders`: [n, at most n_knobs], of knobs whose levels have an order of cost.
    """
    out = rows.copy()
    over = np.flatnonzero(~space.are_within(rows, limits))
    most = orders.shape[1]
    if not len(over) or not most:
        return out
    rows, orders = rows[over], orders[over]
    lowest = np.array([knob.levels[0] for knob in space.knobs])
    turn = np.full(rows.shape, most)  # [n, n_knobs]: when each knob falls
    np.put_along_axis(turn, orders, np.broadcast_to(np.arange(most), orders.shape), axis=1)

    def fallen(which: np.ndarray, count: np.ndarray) -> np.ndarray:
        levels: np.ndarray = np.where(turn[which] < count[:, None], lowest, rows[which])
        return levels

    def enough(which: np.ndarray, count: np.ndarray) -> np.ndarray:
        return space.are_within(fallen(which, count), limits)

    every = np.arange(len(rows))
    count = _least(enough, np.ones(len(rows), dtype=np.int64), np.full(len(rows), most))
    last, start = orders[every, count - 1], fallen(every, count - 1)
    legal = [space.knobs[t].levels for t in last.tolist()]
    place = np.array([levels.index(row[t]) for levels, row, t in zip(legal, rows.tolist(), last.tolist(), strict=True)])

    def lowered(which: np.ndarray, by: np.ndarray) -> np.ndarray:
        levels: np.ndarray = start[which]
        at = np.maximum(place[which] - by, 0).tolist()
        levels[np.arange(len(which)), last[which]] = [legal[i][p] for i, p in zip(which.tolist(), at, strict=True)]
        return levels

    by = _least(lambda which, by: space.are_within(lowered(which, by), limits), np.minimum(place, 1), place)
    out[over] = lowered(every, by)
    return out


def _least(holds: Callable[[np.ndarray, np.ndarray], np.ndarray], low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """For each of n things the least number from `low` to `high`, [n], at which it holds; `high` where at none before.

    `holds`: some of them, [m], and a number for each -> whether it does, and then at all greater numbers too: [m] bool.
    Small numbers are tried first.
    """
    low, high, reach = low.copy(), high.copy(), 0
    while len(left := np.flatnonzero(low < high)):
        middle = np.minimum(low[left] + reach, (low[left] + high[left]) // 2)
        does = holds(left, middle)
        high[left] = np.where(does, middle, high[left])
        low[left] = np.where(does, low[left], middle + 1)
        reach = 2 * reach + 1
    return low


def several_levels(space: Space) -> list[int]:
    """The knobs that have more than one level."""
    return [t for t, knob in enumerate(space.knobs) if len(knob.levels) > 1]


def has_choices(space: Space) -> bool:
    """Whether some knob of the space has levels without an order of cost."""
    return any(knob.kind == "choice" for knob in space.knobs)


def movable(space: Space, levels: Sequence[int]) -> list[int]:
    """The knobs that make a difference at `levels` ([n_knobs]) and have other levels."""
    active = space.active(np.asarray(levels))
    return [t for t, knob in enumerate(space.knobs) if len(knob.levels) > 1 and active[t]]


def stand(space: Space, point: Point, t: int, level: int, limits: Mapping[str, float], others: Sequence[int]) -> Point:
    """`point` with knob `t` at `level`, the rest as it was where the limits can be kept, the first of `others` first.

    Amounts are raised again until none can rise. Where `level` is too dear by itself the nearest cheaper stands there.
    """
    levels = [point[knob.name] for knob in space.knobs]
    levels[t] = level
    if not limits:
        return space.point(levels)
    moved = space.repaired(levels, [t, *(other for other in others if other != t)], limits)
    return space.fill([moved[knob.name] for knob in space.knobs], space.encode(moved), limits)


def exchange(
    space: Space, point: Point, limits: Mapping[str, float], rng: np.random.Generator, strength: float
) -> Point:
    """A neighbour of `point`, on the budget as `point` is: one knob falls for another to rise.

    One of the two, drawn evenly, takes a step: log-uniform between `FINEST` and `strength` of the knob's number of
    levels, and at least one level, so that most steps are fine and some are wide. The other gives or takes what that
    step is worth. Where it cannot, and for what rounding leaves over, all knobs step in; they stay where they are
    otherwise. Without limits, one knob takes a step and no other moves. If nothing can move, `point` itself comes back.
    Where there are choices, a knob that makes a difference is drawn first, and if it is a choice, another level of it.
    """
    knobs = space.knobs
    if has_choices(space):
        able = movable(space, [point[knob.name] for knob in knobs])
        if able and knobs[t := int(rng.choice(able))].kind == "choice":
            other = int(rng.choice([level for level in knobs[t].levels if level != point[knobs[t].name]]))
            return stand(space, point, t, other, limits, rng.permutation(len(knobs)).tolist())
    levels = [point[knob.name] for knob in knobs]
    step = strength * (FINEST / strength) ** rng.random()
    fallers = [t for t, knob in enumerate(knobs) if levels[t] > knob.levels[0] and knob.kind != "choice"]
    risers = [t for t, knob in enumerate(knobs) if levels[t] < knob.levels[-1] and knob.kind != "choice"]
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
        others = [t for t in others if knobs[t].kind != "choice"]
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
