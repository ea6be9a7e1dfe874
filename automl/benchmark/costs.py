"""A cost of a space as a polynomial of its levels, exact, so that a table of results needs no network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from automl.errors import TableError
from search_spaces import CostedSpace

CHECKED = 1000
"""How many random choices a polynomial is compared on, beside those that a table holds."""


@dataclass(frozen=True)
class CostPolynomial:
    """constant + slope . d + d . curve . d with d = levels - lowest, rounded to a whole number.

    A convolution costs (inputs kept) x (outputs kept), so widths enter in products of two at most, and where only
    one side of every layer is a knob, as inside the blocks of a ResNet, `curve` is 0.
    """

    lowest: np.ndarray
    """The smallest level of every knob: [n_knobs]."""
    constant: float
    slope: np.ndarray
    """[n_knobs]."""
    curve: np.ndarray
    """Upper triangular: [n_knobs, n_knobs]."""

    def __call__(self, levels: np.ndarray) -> np.ndarray:
        """The cost at `levels`, [..., n_knobs]: [...]."""
        above = levels - self.lowest
        cost: np.ndarray = np.rint(self.constant + (above * (above @ self.curve + self.slope)).sum(axis=-1))
        return cost

    @classmethod
    def fit(cls, space: CostedSpace, metric: str, levels: np.ndarray) -> CostPolynomial:
        """From differences between neighbouring levels; compared with the space at `levels` and at random ones.

        Args:
            space: whose cost it is.
            metric: one of `space.metrics`, a whole number at every choice.
            levels: the choices at which it has to be exact: [n, n_knobs].

        `TableError` unless it is exact at every one of them.
        """
        low, n = space.lowest, len(space.knobs)

        def cost(**raised: int) -> float:
            at = low.copy()
            for knob, by in raised.items():
                at[int(knob[1:])] += by
            return space.cost_of_levels(at, metric)

        constant = cost()
        steps = [[level - knob.levels[0] for level in knob.levels[1:3]] for knob in space.knobs]
        slope, curve = np.zeros(n), np.zeros((n, n))
        for i, by in enumerate(steps):
            rise = [(cost(**{f"k{i}": d}) - constant) / d for d in by]
            if len(by) == 2:
                curve[i, i] = (rise[1] - rise[0]) / (by[1] - by[0])
            if by:
                slope[i] = rise[0] - curve[i, i] * by[0]
        for i in range(n):
            for j in range(i + 1, n):
                if steps[i] and steps[j]:
                    a, b = steps[i][0], steps[j][0]
                    both = cost(**{f"k{i}": a, f"k{j}": b}) + constant
                    curve[i, j] = (both - cost(**{f"k{i}": a}) - cost(**{f"k{j}": b})) / (a * b)
        polynomial = cls(low, constant, slope, curve)
        polynomial._require_exact(space, metric, levels)
        return polynomial

    def _require_exact(self, space: CostedSpace, metric: str, levels: np.ndarray) -> None:
        rng = np.random.default_rng(0)
        drawn = np.stack([rng.choice(knob.levels, CHECKED) for knob in space.knobs], axis=1)
        at = np.concatenate([space.lowest[None], space.highest[None], drawn, levels])
        true = np.array([space.cost_of_levels(row, metric) for row in at])
        wrong = np.flatnonzero(self(at) != true)
        if len(wrong):
            row = wrong[0]
            raise TableError(
                f"expected {metric} to be a whole number, quadratic in the levels, but at {at[row].tolist()} it is "
                f"{true[row]:,} and not {float(self(at[row])):,}. Leave {metric} out of the table"
            )
