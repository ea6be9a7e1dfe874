"""Error curves of several operators in one unit: each is measured on whole networks that it alone has changed.

A curve says what one knob's level costs, to second order and as if errors met no others. How far that is from what a
whole network loses differs by operator: on ResNet-20 twice the divergence was 2 to 4 times the sum of the curves for
ranks, 6 to 25 times for blocks and 20 to 60 times for channels. On ResNet-56, which is so sure of its training images
that their Fisher information is near 0, it was 500 to 8,000 times for ranks and channels. Within one operator that
changes no choice; where several share a budget, one factor for each of them puts it right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from agents import Sensitivity
from search_spaces import Knob, NetworkSpace, Point

SHARES = (0.01, 0.1)
"""At these shares of the least that any operator can cost in all, networks are measured."""


def in_one_unit(
    space: NetworkSpace, curves: Sequence[Sensitivity], divergence: Callable[[Point], float] | None
) -> Sensitivity:
    """The curves of all operators, each operator's times a factor that makes sums of them alike.

    `curves`: of each operator by itself. `divergence`: of the network at a Point from the original, on average; None
    where that cannot be said, and the curves stay as they are.
    """
    told = [found for found in curves if any(curve.max() > 0 for curve in found.values())]
    factors = {}
    if len(told) > 1 and divergence is not None:
        knobs = {knob.name: knob for knob in space.knobs}
        most = min(sum(float(curve.max()) for curve in found.values()) for found in told)
        for number, found in enumerate(told):
            ratios = [_ratio(space, knobs, found, share * most, divergence) for share in SHARES]
            known = [math.log(ratio) for ratio in ratios if ratio is not None]
            factors[number] = math.exp(sum(known) / len(known)) if known else 1.0
    scaled = {name: factors.get(i, 1.0) * curve for i, found in enumerate(told) for name, curve in found.items()}
    return {name: scaled.get(name, curve) for found in curves for name, curve in found.items()}


def _ratio(
    space: NetworkSpace,
    knobs: Mapping[str, Knob],
    curves: Sensitivity,
    total: float,
    divergence: Callable[[Point], float],
) -> float | None:
    """Twice the divergence of a network whose curves sum up to at most `total`, over that sum; None without one."""
    chosen = _evenly(curves, total)
    predicted = sum(float(curves[name][i]) for name, i in chosen.items())
    if not predicted > 0:
        return None
    levels = {name: knobs[name].levels[i] for name, i in chosen.items()}
    whole = zip(space.knobs, space.original_levels.tolist(), strict=True)
    measured = divergence(space.point([levels.get(knob.name, level) for knob, level in whole]))
    if not (math.isfinite(measured) and measured > 0):
        return None
    return 2 * measured / predicted


def _evenly(curves: Sensitivity, total: float) -> dict[str, int]:
    """Knob -> the place of its lowest level that costs no more than a bound, the largest that keeps to `total`.

    Where even the smallest cost exceeds `total`, that one alone is paid.
    """
    bounds = np.unique(np.concatenate(list(curves.values())))
    positive = bounds[bounds > 0]
    low, high = 0, len(positive)  # of the bounds before `low` all keep to the total
    while low < high:
        middle = (low + high) // 2
        places = _within(curves, positive[middle])
        if sum(float(curves[name][i]) for name, i in places.items()) <= total:
            low = middle + 1
        else:
            high = middle
    if low:
        return _within(curves, positive[low - 1])
    name = min(curves, key=lambda name: float(curves[name][curves[name] > 0].min(initial=math.inf)))
    places = _within(curves, 0.0)
    return {**places, name: _within({name: curves[name]}, positive[0])[name]}


def _within(curves: Sensitivity, bound: float) -> dict[str, int]:
    """Knob -> the place of its lowest level whose curve, which never rises, is at most `bound`."""
    return {name: int(np.argmax(curve <= bound)) for name, curve in curves.items()}
