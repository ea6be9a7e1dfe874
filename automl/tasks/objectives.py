"""The objectives that weigh quality against cost, so that no budget is needed: AMC's, N2N's and ESNAC's, Huang's."""

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

BOUNDED_DROP = "bounded_drop"

COMPARED = (COMPRESSION_REWARD, BOUNDED_DROP)
"""Those that compare a network with the original."""

WEIGHED = (*ERROR_TIMES_LOG, *COMPARED)
"""Every objective that weighs a rate, such as accuracy, against cost."""


def maximized(*tasks: str | None) -> tuple[str, ...]:
    """The objectives of which more is better: the kinds of task say it of their metrics.

    `tasks`: those whose metrics are meant too, if packages bring them; None is none.
    """
    better = [name for one in _metrics(tasks) for name, metric in one.items() if metric.direction == "maximize"]
    return (*dict.fromkeys(better), *COMPARED)


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
    measured: Sequence[Measurement],
    objective: str,
    rate: str,
    original: Mapping[str, float] | None = None,
    most_lost: float | None = None,
) -> list[Measurement]:
    """`measured`, and what it comes to in an objective of `WEIGHED`; any other is measured as it is.

    `rate`: the metric that is weighed, from 0 to 1 and the more the better, such as the accuracy of the papers.

    `error_log_macs`, `error_log_params`: error * ln(cost), to be minimised, with error = 1 - rate: the reward
    -Error * log(FLOPs) or -Error * log(#Param) of He et al. 2018 (arXiv 1802.03494), section 3.2, on MACs as its
    released code has it.

    `compression_reward`: C (2 - C) * rate / rate of the original, to be maximised, with C = 1 - params / params
    of the original, of which `original` has `rate` and `params`: Ashok et al. 2018 (arXiv 1709.06030), section 3.4,
    and Cao et al. 2019.

    `bounded_drop`: (b - drop) / b * ln(params of the original / params), to be maximised, with drop = rate of the
    original - rate and b the `most_lost`, above 0, that is guaranteed: the reward psi * phi of Huang et al. 2018 (arXiv
    1801.07365), equations 2 to 4. Theirs is of one layer at a time and counts its filters; this is of the network, and
    counts its parameters. It is 0 of the original, and below 0 of what loses more than b.
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
    elif objective == BOUNDED_DROP:
        assert original is not None and most_lost is not None
        scale = math.log(original["params"] / max(found["params"].value, 1.0)) / most_lost
        value = (most_lost - (original[rate] - weighed.value)) * scale
    else:
        scale = math.log(max(found[ERROR_TIMES_LOG[objective]].value, 1.0))
        value = (1 - weighed.value) * scale
    spread = None if weighed.spread is None else weighed.spread * scale
    return [*measured, Measurement(objective, value, "", weighed.n, spread, weighed.device)]
