"""The objectives of AMC's accuracy-guaranteed search: how much error a trial has, weighed by what it costs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from automl.types import Measurement

ERROR_TIMES_LOG = {"error_log_macs": "macs", "error_log_params": "params"}
"""Objective -> the cost whose logarithm the error is multiplied with."""


def with_objective(measured: Sequence[Measurement], objective: str) -> list[Measurement]:
    """`measured`, and what it comes to in an objective of `ERROR_TIMES_LOG`; any other is measured as it is.

    error * ln(cost), to be minimised, with error = 1 - accuracy: the reward -Error * log(FLOPs) or -Error *
    log(#Param) of He et al. 2018 (arXiv 1802.03494), section 3.2, on MACs as its released code has it.
    """
    if objective not in ERROR_TIMES_LOG:
        return list(measured)
    found = {m.metric: m for m in measured}
    accuracy, cost = found["accuracy"], found[ERROR_TIMES_LOG[objective]]
    scale = math.log(max(cost.value, 1.0))
    spread = None if accuracy.spread is None else accuracy.spread * scale
    return [*measured, Measurement(objective, (1 - accuracy.value) * scale, "", accuracy.n, spread, accuracy.device)]
