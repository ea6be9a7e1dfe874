"""The error curves that agents start from, put on record: what each choice alone was estimated to cost in quality."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agents import Sensitivity
from automl.store import Store, TrialRecord
from automl.types import Measurement, Phase
from search_spaces import Knob

LEVELS = 33
"""The most levels of a knob that are recorded, evenly over all: a curve is to be looked at."""
LONGEST = 200
"""Letters that the name of a metric may have in the database, and so that of a knob here."""


def record_curves(store: Store, base: TrialRecord, knobs: Sequence[Knob], curves: Sensitivity) -> None:
    """Add the curves to what is known of the original network's trial, unless they are there.

    A measurement a level: the metric is the knob's name, the step its level, the value the error there.
    """
    if base.values_of(Phase.SENSITIVITY):
        return
    store.add_measurements(
        base.id,
        [
            Measurement(knob.name, float(curves[knob.name][i]), step=knob.levels[i], phase=Phase.SENSITIVITY)
            for knob in knobs
            if knob.name in curves and len(knob.name) <= LONGEST
            for i in np.unique(np.linspace(0, len(knob.levels) - 1, LEVELS).round().astype(int))
        ],
    )
