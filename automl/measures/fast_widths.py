"""The widths of coupled channels at which a backend is faster than at any greater one, measured.

Libraries compute channels in blocks, so that a width which ends in the middle of one takes as long as the next whole
one, or longer, and how large blocks are differs from layer to layer: in ONNX Runtime, a 3x3 convolution of 8-bit
integers at 32x32 takes 21 microseconds with 16 channels and 25 to 39 with 4 to 15, and at 8x8 ever less the fewer
multiples of 4 there are. A width that is no faster than a greater one only loses accuracy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np

from automl.measures.backends.side_by_side import Effort, Run, side_by_side
from automl.measures.pieces import Shape, shapes_of
from search_spaces import Channels, NetworkSpace
from search_spaces.graph.groups import Group

EVERY = "*"
"""Stands for all groups or layers, as in the options `widths` of `channels` and `at_most` of `rank`."""
WORTH = 0.02
"""A width must save so much of the time of the next greater one that is offered."""
FINE, MIDDLE = 16, 64
"""Up to the first all widths are timed, up to the second multiples of 4, beyond it multiples of 16."""
EFFORT = Effort(rounds=20, seconds=6.0, half_width=0.05, repeats=1)
"""For all widths of a shape together."""
Maker = Callable[[Shape, int, int], tuple[Run, int]]
"""Shape, read, made -> a run of several such layers, and how many they are."""


def fast_widths(space: NetworkSpace, make: Maker, threads: int) -> dict[str, tuple[int, ...]]:
    """Measure at which widths narrower than the whole each group's layers are faster than at any greater one.

    Group -> those widths, ascending, none where no narrower one is faster; `EVERY` alone -> none if that is so of all.
    A group's time is that of the layers that read or make it, each timed with as many channels read as made.
    """
    groups = space.operator(Channels).groups
    found = fast_by_times(groups, _touched(space), lambda shape, widths: _times(make, shape, widths, threads))
    return found if any(found.values()) else {EVERY: ()}


def fast_by_times(
    groups: tuple[Group, ...],
    touched: Mapping[str, list[tuple[Shape, int]]],
    times_of: Callable[[Shape, list[int]], Mapping[int, float]],
) -> dict[str, tuple[int, ...]]:
    """The fast widths of groups. `touched`: for each the shapes of its layers, and how many channels a layer counts for
    one of the group; `times_of`: the times of a shape at some widths."""
    needed: dict[Shape, set[int]] = {}
    for group in groups:
        for shape, each in touched[group.name]:
            needed.setdefault(shape, set()).update(width * each for width in _timed(group.size))
    times = {shape: times_of(shape, sorted(widths)) for shape, widths in sorted(needed.items())}
    found = {}
    for group in groups:
        widths = _timed(group.size)
        total = {w: sum(times[shape][w * each] for shape, each in touched[group.name]) for w in widths}
        found[group.name] = _faster_than_greater(total)
    return found


def _faster_than_greater(times: Mapping[int, float]) -> tuple[int, ...]:
    """The widths below the greatest that take less, by `WORTH`, than the next greater one of them: ascending."""
    widths = sorted(times, reverse=True)
    chosen = widths[:1]
    for width in widths[1:]:
        if times[width] <= (1 - WORTH) * times[chosen[-1]]:
            chosen.append(width)
    return tuple(reversed(chosen[1:]))


def _timed(size: int) -> list[int]:
    """The widths of a group of so many channels that are timed, the whole one among them."""
    fine, middle, coarse = range(1, FINE + 1), range(FINE, MIDDLE + 1, 4), range(MIDDLE, size, 16)
    return sorted({width for width in (*fine, *middle, *coarse) if width < size} | {size})


def _touched(space: NetworkSpace) -> dict[str, list[tuple[Shape, int]]]:
    """Group -> the shapes of the layers that read or make it, and how many channels of each are one of the group."""
    shapes = {t.name: shape for t, shape in zip(space.basis.terms.tensors, shapes_of(space), strict=True)}
    return {
        group.name: [(shapes[m.parameter], m.indices.shape[1]) for m in group.members if m.parameter in shapes]
        for group in space.operator(Channels).groups
    }


def _times(make: Maker, shape: Shape, widths: list[int], threads: int) -> dict[int, float]:
    """The median times of layers of one shape that read and make so many channels, all in turn, in ms."""
    runs = {str(width): make(shape, width, width)[0] for width in widths}
    clock = time.process_time if threads == 1 else time.perf_counter
    rounds = side_by_side(runs, EFFORT, clock).rounds_ms
    return {width: float(np.median(rounds[str(width)])) for width in widths}
