"""The objectives that weigh quality against cost, so that no budget is needed: AMC's, and that of N2N and ESNAC."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from automl.types import Measurement

if TYPE_CHECKING:
    from automl.tasks.metric import Metric

ERROR_TIMES_LOG = {"error_log_macs": "macs", "error_log_params": "params"}
"""Objective -> the cost whose logarithm the error is multiplied with."""

COMPRESSION_REWARD = "compression_reward"

WEIGHED = (*ERROR_TIMES_LOG, COMPRESSION_REWARD)
"""Every objective that weighs a rate, such as accuracy, against cost."""


def maximized(*tasks: str | None) -> tuple[str, ...]:
    """The objectives of which more is better: the kinds of task say it of their metrics.

    `tasks`: those whose metrics are meant too, if packages bring them; None is none.
    """
    better = [name for one in _metrics(tasks) for name, metric in one.items() if metric.direction == "maximize"]
    return (*dict.fromkeys(better), COMPRESSION_REWARD)


def known_objectives(*tasks: str | None) -> list[str]:
    """Every objective that needs no metric of the user's: those that all tasks have, then those of single kinds.

    `tasks`: as above.
    """
    from automl.tasks.base import DIVERGENCE

    first, *others = _metrics(tasks)
    return list(dict.fromkeys([*first, DIVERGENCE, *WEIGHED, *(name for names in others for name in names)]))


def _metrics(tasks: Sequence[str | None]) -> list[Mapping[str, Metric]]:
    """The metrics of each of our kinds, and of those called `tasks`."""
    from automl.tasks.kinds import KINDS, made  # loads torch, which the names above need not wait for

    return [kind().metrics for kind in KINDS] + [made(task).metrics for task in tasks if task is not None]


def usual_objective(task: str) -> str:
    """The metric by which a kind of task is judged, and so what is sought unless another is named."""
    from automl.tasks.kinds import made

    return made(task).headline


def with_objective(
    measured: Sequence[Measurement], objective: str, rate: str, original: Mapping[str, float] | None = None
) -> list[Measurement]:
    """`measured`, and what it comes to in an objective of `WEIGHED`; any other is measured as it is.

    `rate`: the metric that is weighed, from 0 to 1 and the more the better, such as the accuracy of the papers.

    `error_log_macs`, `error_log_params`: error * ln(cost), to be minimised, with error = 1 - rate: the reward
    -Error * log(FLOPs) or -Error * log(#Param) of He et al. 2018 (arXiv 1802.03494), section 3.2, on MACs as its
    released code has it.

    `compression_reward`: C (2 - C) * rate / rate of the original, to be maximised, with C = 1 - params / params
    of the original, of which `original` has `rate` and `params`: Ashok et al. 2018 (arXiv 1709.06030), section 3.4,
    and Cao et al. 2019.
    """
    if objective not in WEIGHED:
        return list(measured)
    found = {m.metric: m for m in measured}
    weighed = found[rate]
    if objective == COMPRESSION_REWARD:
        assert original is not None
        compression = 1 - found["params"].value / original["params"]
        scale = compression * (2 - compression) / max(original[rate], 1e-9)
        value = weighed.value * scale
    else:
        scale = math.log(max(found[ERROR_TIMES_LOG[objective]].value, 1.0))
        value = (1 - weighed.value) * scale
    spread = None if weighed.spread is None else weighed.spread * scale
    return [*measured, Measurement(objective, value, "", weighed.n, spread, weighed.device)]
