"""Where an acquisition function is largest among Points that are drawn, most of them mutations of the best ones tried.

The operations are those of Cao et al. 2019 (ESNAC, section 3.3), as far as a space has them: a bit is flipped (a layer
or a skip goes or comes), a width takes a step. What is then over the budget is cut, knob by knob in random order. Only
the few candidates that look best are filled up to use the whole budget, which takes as long as drawing a hundred; they
are judged again as they then are. For a front, which has points below the budget, they are left as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agents.moves import FINEST, cut_all, has_choices, movable, several_levels, within
from agents.random_search import random_point
from search_spaces import Knob, Point, Space

RESTARTS = 16
"""How many candidates are random Points; half as many mutations start from them as from incumbents."""

FINALISTS = 16
"""How many candidates are filled up and judged again."""

STRENGTH = 0.5
"""The widest step of a width, as a part of its levels."""

CHANGES = 2.0
"""The mean number of knobs that a mutation changes; their number is geometric."""

Acquisition = Callable[[Sequence[Point]], np.ndarray]
"""Points -> how much each promises: [n]."""

RandomPoint = Callable[[Space, Mapping[str, float], np.random.Generator], Point]
"""Draws a Point within limits."""


def best_candidate(
    space: Space,
    limits: Mapping[str, float],
    incumbents: Sequence[Point],
    known: set[Point],
    acquisition: Acquisition,
    n: int,
    rng: np.random.Generator,
    *,
    restart: RandomPoint = random_point,
    filled: bool = True,
) -> Point | None:
    """The Point not `known` of the largest `acquisition` among `n` drawn, within the limits; None if all are known.

    Args:
        incumbents: Points worth being near, the best first.
        n: how many are drawn, random restarts among them; there are fewer distinct ones.
        restart: draws a random Point within the limits.
        filled: whether the Point has to use the limits up.
    """
    all_drawn = draw(space, limits, incumbents, n, rng, restart)
    drawn = list(dict.fromkeys(point for point in all_drawn if point not in known))
    if not drawn:
        return None
    best_first = np.argsort(-acquisition(drawn), kind="stable")
    finalists: list[Point] = [drawn[i] for i in best_first[:FINALISTS]]
    if limits and filled:
        risen = dict.fromkeys(_filled(space, limits, point, rng) for point in finalists)
        finalists = [point for point in risen if point not in known]
        if not finalists:
            return None
        finalists = [finalists[i] for i in np.argsort(-acquisition(finalists), kind="stable")]
    return finalists[0]


def draw(
    space: Space,
    limits: Mapping[str, float],
    incumbents: Sequence[Point],
    n: int,
    rng: np.random.Generator,
    restart: RandomPoint = random_point,
) -> Iterator[Point]:
    """`n` candidates within the limits: random Points, and mutations of them and of `incumbents`."""
    restarts = [restart(space, limits, rng) for _ in range(min(RESTARTS, n))]
    yield from restarts
    parents = [*incumbents, *restarts[: max(len(incumbents) // 2, 1)]]
    levels = [[point[knob.name] for knob in space.knobs] for point in parents]
    chosen = (levels[int(rng.integers(len(levels)))] for _ in range(n - len(restarts)))
    if has_choices(space):
        moved = (mutate(space, parent, movable(space, parent), rng) for parent in chosen)
        yield from (space.point(_repaired(space, mutant, limits)) for mutant in moved)
    elif n > len(restarts):
        free = several_levels(space)
        mutants = [mutate(space, parent, free, rng) for parent in chosen]  # all are drawn, and then priced at once
        rows = np.array([mutant.levels for mutant in mutants])
        orders = np.array([[*m.order[m.changed :], *m.order[: m.changed]] for m in mutants])
        yield from space.points(cut_all(space, rows, orders, limits) if limits else rows)


@dataclass(frozen=True)
class Mutant:
    """Levels of which a few were changed."""

    levels: list[int]
    """[n_knobs]"""
    order: list[int]
    """The knobs that may change, in random order."""
    changed: int
    """How many of the first of them were."""


def mutate(space: Space, levels: Sequence[int], free: Sequence[int], rng: np.random.Generator) -> Mutant:
    """`levels` ([n_knobs]) with a few of the `free` knobs changed, whatever that costs."""
    out = list(levels)
    if not free:
        return Mutant(out, [], 0)
    order = rng.permutation(free).tolist()
    changed = min(int(rng.geometric(1 / CHANGES)), len(order))
    for t in order[:changed]:
        out[t] = _changed(space.knobs[t], out[t], rng)
    return Mutant(out, order, changed)


def _repaired(space: Space, mutant: Mutant, limits: Mapping[str, float]) -> list[int]:
    """The levels of a mutant with choices, what was changed last to yield until the limits are kept."""
    if not mutant.order or not limits or within(space, mutant.levels, limits):
        return mutant.levels
    others = (t for t in range(len(mutant.levels)) if t not in mutant.order)
    repaired = space.repaired(mutant.levels, [*mutant.order, *others], limits)
    return [repaired[knob.name] for knob in space.knobs]


def _changed(knob: Knob, level: int, rng: np.random.Generator) -> int:
    """Another level: any of a choice, the other one of a bit, else a log-uniform step up or down; at an end, away from
    it."""
    legal = knob.levels
    position = legal.index(level)
    if knob.kind == "choice":
        return legal[(position + int(rng.integers(1, len(legal)))) % len(legal)]
    step: int = max(round(STRENGTH * (FINEST / STRENGTH) ** rng.random() * len(legal)), 1)
    if position == 0 or (position < len(legal) - 1 and rng.random() < 0.5):
        return legal[min(position + step, len(legal) - 1)]
    return legal[max(position - step, 0)]


def _filled(space: Space, limits: Mapping[str, float], point: Point, rng: np.random.Generator) -> Point:
    """`point` raised until no knob can rise any more, in its own proportions; equals rise in random order."""
    levels = [point[knob.name] for knob in space.knobs]
    keeps = np.array([knob.keep(level) for knob, level in zip(space.knobs, levels, strict=True)])
    return space.fill(levels, keeps * rng.uniform(1.0, 1.01, len(keeps)), limits)
