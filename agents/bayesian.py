"""Bayesian regression over networks as their knobs say it: additive effects, and what knobs do together.

A choice is a column a level, of zeros and ones, zeros where it makes no difference; anything else its keep fraction.
The prior of the value is a Gaussian process with kernel

    a(x, x') = 2 x . x' / d  +  w * exp(-|x - x'|^2 / (2 l))

a ridge regression on the columns (Wang & Chen 2018, arXiv 1803.04623), and one that falls with the number of knobs that
differ, since |x - x'|^2 / 2 of columns of zeros and ones is their number. w, l and the noise are those of a grid under
which what was told is likeliest, the scale of all in closed form (Rasmussen & Williams 2006, equation 5.8).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from search_spaces import Knob, Point, Space

WEIGHTS = ((0.0, 1.0), *((weight, length) for weight in (0.3, 1.0, 3.0) for length in (1.0, 2.0, 4.0)))
"""Candidates for (w, l)."""

NOISES = (0.03, 0.1, 0.3, 1.0)
"""Candidates for the variance of the noise, as a part of the mean prior variance of what was told."""


class Columns:
    """Points as rows of numbers in [0, 1]."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.knobs = [(t, knob) for t, knob in enumerate(space.knobs) if len(knob.levels) > 1]

    def __call__(self, points: Sequence[Point]) -> np.ndarray:
        """[n, n_columns]."""
        levels = np.array([[point[knob.name] for knob in self.space.knobs] for point in points])
        active = np.stack([self.space.active(row) for row in levels])
        columns = []
        for t, knob in self.knobs:
            if knob.kind == "choice":
                columns.append(one_hot(knob, levels[:, t], active[:, t]))
            else:
                keeps = np.array([knob.keep(level) for level in levels[:, t].tolist()])
                columns.append((keeps * active[:, t])[:, None])
        return np.concatenate(columns, axis=1)


def one_hot(knob: Knob, levels: np.ndarray, active: np.ndarray) -> np.ndarray:
    """A column a level of `knob`, zeros where it makes no difference: `levels` and `active`, [n] -> [n, n_levels]."""
    columns: np.ndarray = ((levels[:, None] == np.array(knob.levels)) & active[:, None]).astype(float)
    return columns


@dataclass(frozen=True)
class Prior:
    """The kernel with everything found."""

    weight: float
    length: float
    noise: float
    scale: float

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """[n, d] and [m, d] -> [n, m]."""
        products = a @ b.T
        linear: np.ndarray = 2 * products / a.shape[1]
        if not self.weight:
            return linear * self.scale
        squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * products
        kernel: np.ndarray = self.scale * (linear + self.weight * np.exp(-squares / (2 * self.length)))
        return kernel


class Regression:
    """What is known of the values of all networks, given those of some."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        """`x`: [n, d]; `y`: standardised values, [n]."""
        self.x, self.prior = x, likeliest(x, y)
        self.root = np.linalg.cholesky(self.prior(x, x) + self.prior.noise * np.eye(len(x)))
        self.weights = np.linalg.solve(self.root.T, np.linalg.solve(self.root, y))

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean [n] and covariance [n, n] at `x`, [n, d], without the noise of observation."""
        across = self.prior(self.x, x)
        shared = np.linalg.solve(self.root, across)
        return across.T @ self.weights, self.prior(x, x) - shared.T @ shared


def likeliest(x: np.ndarray, y: np.ndarray) -> Prior:
    """The prior of the grid under which `y` ([n]) at `x` ([n, d]) is likeliest."""
    best, found = -np.inf, Prior(0.0, 1.0, 1.0, 1.0)
    for weight, length in WEIGHTS:
        kernel = Prior(weight, length, 0.0, 1.0)(x, x)
        values, vectors = np.linalg.eigh(kernel)
        rotated = (vectors.T @ y) ** 2
        for part in NOISES:
            noise = part * max(float(np.trace(kernel)) / len(y), 1e-12)
            spread = np.maximum(values, 0.0) + noise
            scale = max(float((rotated / spread).mean()), 1e-12)
            likelihood = -0.5 * len(y) * np.log(scale) - 0.5 * float(np.log(spread).sum())
            if likelihood > best:
                best, found = likelihood, Prior(weight, length, scale * noise, scale)
    return found
