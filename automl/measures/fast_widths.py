"""The step of widths that a backend computes fast, measured.

Libraries compute channels in blocks, so that a width which ends in the middle of one takes as long as the next whole
one, or longer: in ONNX Runtime 8-bit convolutions of 31 channels took 1.7 times as long as those of 32. Few widths are
worth having, and no model of times that rise with widths could tell which.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from automl.measures.backends.side_by_side import Effort, Run, side_by_side
from automl.measures.pieces import Shape

STEPS = (1, 2, 4, 8, 16, 32)
MOST = 64
"""Widths above this are taken to go as those below."""
WORTH = 0.02
"""A larger step must save so much more of the time."""
EFFORT = Effort(rounds=20, seconds=6.0, half_width=0.05, repeats=1)


@dataclass(frozen=True)
class FastStep:
    """What rounding widths up to multiples comes to."""

    step: int
    ratio: float
    """The time of layers rounded up to multiples of `step` by that of the layers as they were, on average."""


def fast_step(make: Callable[[Shape, int, int], tuple[Run, int]], shape: Shape, widest: int, threads: int) -> FastStep:
    """The step to multiples of which widths are best rounded up, by layers of one shape on a backend.

    Every width from half of `widest`, or of `MOST`, on is timed, as what a layer reads and makes.
    """
    top = min(widest, MOST)
    widths = range(top // 2 + 1, top + 1)
    runs = {str(width): make(shape, width, width)[0] for width in widths}
    clock = time.process_time if threads == 1 else time.perf_counter
    rounds = side_by_side(runs, EFFORT, clock).rounds_ms
    return chosen({width: float(np.median(rounds[str(width)])) for width in widths})


def chosen(times: Mapping[int, float]) -> FastStep:
    """The step that saves most by the times of successive widths; the least of those that save about as much."""
    top = max(times)
    found = []
    for step in STEPS:
        rounded = [min(-(-width // step) * step, top) for width in times]
        found.append(
            FastStep(step, float(np.mean([times[up] / times[w] for w, up in zip(times, rounded, strict=True)])))
        )
    least = min(one.ratio for one in found)
    return next(one for one in found if one.ratio <= least + WORTH)
