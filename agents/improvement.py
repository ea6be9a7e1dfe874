"""Expected improvement under normal distributions, on a logarithmic scale, where it never becomes 0."""

from __future__ import annotations

import numpy as np
from scipy.special import erfcx, ndtr

C1 = np.log(2 * np.pi) / 2
C2 = np.log(np.pi / 2) / 2


def log_expected_improvement(mean: np.ndarray, sigma: np.ndarray, best: np.ndarray | float) -> np.ndarray:
    """log E[max(f - best, 0)] for f ~ N(mean, sigma^2), all broadcast together; sigma > 0."""
    improvement: np.ndarray = np.log(sigma) + _log_h((mean - best) / sigma)
    return improvement


def _log_h(z: np.ndarray) -> np.ndarray:
    """log(phi(z) + z * Phi(z)), exact to rounding far below 0 too: Ament et al. 2023 (arXiv 2310.20708), equation 9."""
    near, far = np.maximum(z, -1.0), np.minimum(z, -1.0)
    right = np.log(np.exp(-(near**2) / 2 - C1) + near * ndtr(near))
    # What is left of 1 - |z| erfcx(..): close to 1 / z^2, and lost to rounding where z^2 is as large as 1 / epsilon.
    rest = -np.expm1(np.log(erfcx(-far / np.sqrt(2)) * -far) + C2)
    left = -(far**2) / 2 - C1 + np.where(far > -1e5, np.log(np.maximum(rest, 1e-300)), -2 * np.log(-far))
    h: np.ndarray = np.where(z > -1.0, right, left)
    return h
