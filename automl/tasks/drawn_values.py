"""A signal drawn by a network: outputs are its values at places, in [0, 1], judged by peak signal-to-noise ratio."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from automl.tasks.losses import loss_metric
from automl.tasks.metric import Metric
from automl.tasks.regression import Regression, squares

LEAST = 1e-20
"""Mean squared errors count as that at least, so that the ratio is finite."""


def decibels(sums: Tensor) -> float:
    """The peak signal-to-noise ratio for a peak of 1, from the total and the number of squared errors; at most 200."""
    return -10 * math.log10(max(float(sums[0] / sums[1]), LEAST))


@dataclass(frozen=True)
class DrawnValues(Regression):
    """Regression on the values of a signal: samples are places, [n, axes], and targets [n, channels]."""

    headline = "psnr"

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The peak signal-to-noise ratio in dB, and the loss."""
        ratio = Metric(direction="maximize", statistics=squares, value=decibels)
        return {self.headline: ratio, "loss": loss_metric(self.loss)}
