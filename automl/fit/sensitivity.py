"""What narrowing each group alone is estimated to cost, before any trial."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from agents import Sensitivity
from automl.fit.surgeon import Elimination
from search_spaces import Channels


def sensitivity_curves(channels: Channels, eliminations: Mapping[str, Elimination | None]) -> Sensitivity:
    """Knob of a group's width -> the surgeon's error at each level: [n_levels], never rising, 0 at the highest.

    With the Fisher information as weight the unit is twice the rise of the loss. A group that the surgeon could not
    judge is given the median of the others at the same keep fraction: nothing is known of it.
    """
    known = {name: found.errors for name, found in eliminations.items() if found is not None}
    curves = {}
    for knob in (knob for knob in channels.knobs if knob.name in eliminations):
        removed = knob.size - np.array(knob.levels)
        if knob.name in known:
            curves[knob.name] = known[knob.name][removed]
        elif known:
            parts = [np.interp(removed / knob.size, np.linspace(0, 1, len(e)), e) for e in known.values()]
            curves[knob.name] = np.median(parts, axis=0)
        else:
            curves[knob.name] = removed / knob.size
    return curves
