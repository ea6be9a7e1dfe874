"""A signal is an image, a sound or an array: values on a regular grid, and how alike two of them are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import uniform_filter
from torch import Tensor

from automl.errors import DataError

Values = npt.NDArray[np.float32]
"""[*axes, channels]"""

SignalKind = Literal["image", "audio", "array"]

WINDOW = 7
"""The side of the window of SSIM."""


@dataclass(frozen=True)
class Signal:
    """A signal has values in [0, 1] at the points of a regular grid."""

    values: Values
    """[*axes, channels], in [0, 1]."""
    kind: SignalKind
    facts: Mapping[str, float] = field(default_factory=dict)
    """What a file of this kind needs besides: `rate` of a sound in samples a second, `low` and `high` of an array."""

    def __post_init__(self) -> None:
        if self.values.dtype != np.float32 or self.values.ndim < 2 or not self.values.size:
            raise DataError(
                f"expected float32 values [*axes, channels] of a signal, got {self.values.dtype} of shape "
                f"{list(self.values.shape)}. Give it at least one axis, and one for the channels"
            )
        if not (np.isfinite(self.values).all() and self.values.min() >= 0 and self.values.max() <= 1):
            raise DataError("expected values of a signal in [0, 1], got others. Scale them first")

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the axes, without channels."""
        return self.values.shape[:-1]

    @property
    def channels(self) -> int:
        """How many values a point has."""
        return int(self.values.shape[-1])

    @property
    def points(self) -> int:
        """How many points the grid has: pixels, samples or voxels."""
        return math.prod(self.shape)

    @property
    def targets(self) -> Tensor:
        """The values as a network is to give them: [points, channels]."""
        return torch.from_numpy(self.values.reshape(-1, self.channels))


def coordinates(shape: Sequence[int]) -> Tensor:
    """The places of all points of a grid: [points, axes], float32, the last axis fastest.

    Each axis goes from -1 to 1 by its own length; an axis of one point stands at 0. (COIN's code divides both axes of
    an image by its height less 1.)
    """
    axes = [torch.linspace(-1, 1, length) if length > 1 else torch.zeros(1) for length in shape]
    return torch.cartesian_prod(*axes).reshape(-1, len(axes))


def bits_per_point(size_bytes: int, signal: Signal) -> float:
    """The bits that a file of `size_bytes` takes for each point: of an image, bits per pixel."""
    return 8 * size_bytes / signal.points


def psnr(values: npt.ArrayLike, others: npt.ArrayLike) -> float:
    """The peak signal-to-noise ratio of two signals of one shape in dB, the peak being 1; infinite for equal ones."""
    one, two = np.asarray(values, dtype=np.float64), np.asarray(others, dtype=np.float64)
    _require_one_shape(one, two)
    return psnr_of_error(float(np.mean((one - two) ** 2)))


def psnr_of_error(squared: float) -> float:
    """The peak signal-to-noise ratio of a mean squared error, in dB."""
    return -10 * math.log10(squared) if squared > 0 else math.inf


def ssim(values: npt.ArrayLike, others: npt.ArrayLike) -> float:
    """The structural similarity of two signals [*axes, channels], the mean over points and channels: at most 1.

    Wang et al. 2004, "Image quality assessment", equation 13 with K1 = 0.01 and K2 = 0.03, in windows of 7 points along
    each axis with equal weights and unbiased variances, over the windows that lie inside the grid.
    """
    one, two = np.asarray(values, dtype=np.float64), np.asarray(others, dtype=np.float64)
    _require_one_shape(one, two)
    axes = one.ndim - 1
    if min(one.shape[:-1]) < WINDOW:
        raise DataError(f"SSIM needs at least {WINDOW} points along each axis, got {list(one.shape[:-1])}")
    window = (*[WINDOW] * axes, 1)
    number = WINDOW**axes

    def mean(array: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        found: npt.NDArray[np.float64] = uniform_filter(array, window)
        return found

    means = mean(one), mean(two)
    scale = number / (number - 1)
    variances = [scale * (mean(a * a) - m * m) for a, m in zip((one, two), means, strict=True)]
    covariance = scale * (mean(one * two) - means[0] * means[1])
    c1, c2 = 0.01**2, 0.03**2
    likeness = (2 * means[0] * means[1] + c1) * (2 * covariance + c2)
    likeness /= (means[0] ** 2 + means[1] ** 2 + c1) * (variances[0] + variances[1] + c2)
    inside = (*[slice(WINDOW // 2, -(WINDOW // 2))] * axes, slice(None))
    return float(likeness[inside].mean())


def _require_one_shape(one: npt.NDArray[np.float64], two: npt.NDArray[np.float64]) -> None:
    if one.shape != two.shape:
        raise DataError(f"expected two signals of one shape, got {list(one.shape)} and {list(two.shape)}")
