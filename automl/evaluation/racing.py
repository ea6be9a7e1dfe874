"""Racing: a trial is judged on few samples first, and ends early once it can hardly beat its rival any more.

As in Hoeffding races (Maron & Moore 1993), with paired normal bounds (Birattari 2009, "Tuning metaheuristics") instead
of Hoeffding's, which are too wide to stop anything in time.
"""

from __future__ import annotations

import math

from scipy.special import ndtri
from torch import Tensor

from agents import Goal
from automl.measures.backends.device import cpu_name
from automl.tasks.scores import Scores
from automl.types import Measurement

LOOKS = (1 / 8, 1 / 4, 1 / 2)
"""After which parts of the validation samples a trial may end early."""


def looks(sizes: list[int]) -> list[int]:
    """After how many batches of these sizes to look: the first that reach each part of `LOOKS`, short of all."""
    total, seen, out = sum(sizes), 0, []
    wanted = list(LOOKS)
    for count, size in enumerate(sizes[:-1], start=1):
        seen += size
        if wanted and seen >= wanted[0] * total:
            out.append(count)
            wanted = [part for part in wanted if seen < part * total]
    return out


def hopeless(ours: Scores, rival: Scores, goal: Goal, confidence: float) -> bool:
    """Whether, after the samples so far, a trial would with this confidence end no better than its rival.

    Differences are paired by sample, so that what is hard for both does not count; the error 1 - confidence is
    shared among the looks. What a sample contributes to a metric of sums, such as a mean intersection over union, is
    taken to first order (`pseudo_values`). False for a metric that is known by the batch only.
    """
    difference = _difference(ours, rival, goal.metric)
    if difference is None or len(difference) < 2:
        return False
    sign = 1.0 if goal.direction == "maximize" else -1.0
    quantile = float(ndtri(1 - (1 - confidence) / len(LOOKS)))
    return sign * float(difference.mean()) + quantile * _standard_error(difference, sum(rival.sizes)) < 0


def estimates(ours: Scores, rival: Scores) -> list[Measurement]:
    """Each metric over all samples, from those seen: the rival's value plus the mean difference (a control variate).

    The spread is the standard error of that estimate as one of the value on all validation samples.
    """
    out = []
    for measured in rival.measurements():
        difference = _difference(ours, rival, measured.metric)
        if difference is not None:
            value = measured.value + float(difference.mean())
            error = _standard_error(difference, sum(rival.sizes))
            out.append(Measurement(measured.metric, value, measured.unit, len(difference), error, cpu_name()))
    return out


def _difference(ours: Scores, rival: Scores, metric: str) -> Tensor | None:
    """Ours minus the rival's on the samples that ours have seen: [n]."""
    mine = ours.of(metric)
    theirs = rival.of(metric, first=len(mine)) if mine is not None else None
    return mine - theirs if mine is not None and theirs is not None else None


def _standard_error(difference: Tensor, total: int) -> float:
    """Of the mean of [n] differences as an estimate of their mean over all `total` samples, a finite number."""
    n = len(difference)
    return math.sqrt(float(difference.var()) / n * (1 - n / total)) if n > 1 else 0.0
