"""The rank of a matrix under noise, by variational Bayes: how Kim et al. 2016 choose the ranks of Tucker-2.

Nakajima et al. 2013, "Global analytic solution of fully-observed variational Bayesian matrix factorization", JMLR 14:
under empirical Bayes a component stays where its singular value is above a threshold (theorem 2, with the bound tau of
2.5129 sqrt(alpha) of its section 4), and the variance of the noise is the one that makes the free energy least, by a
search along a line.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

Array = npt.NDArray[np.float64]


def evbmf_rank(matrix: Array) -> int:
    """How many components of `matrix`, [rows, columns], are above its noise."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    rows, columns = wide.shape
    values = np.linalg.svd(wide, compute_uv=False)  # [rows]
    alpha = rows / columns
    least = 2.5129 * np.sqrt(alpha)
    bound = (1 + least) * (1 + alpha / least)
    last = max(int(min(np.ceil(rows / (1 + alpha)) - 1, rows)) - 1, 0)
    power = values**2
    upper = power.sum() / (rows * columns)
    noise = power[last + 1 :]
    lower = max(power[min(last + 1, rows - 1)] / bound, noise.mean() if len(noise) else 0.0) / columns
    more, options = (columns, alpha, power, bound), {"xatol": 1e-12}
    found = minimize_scalar(_free_energy, args=more, bounds=(lower, upper), method="bounded", options=options)
    return int((values > np.sqrt(columns * found.x * bound)).sum())


def _free_energy(variance: float, columns: int, alpha: float, power: Array, bound: float) -> float:
    """The free energy, but for what is the same for all variances, divided by the columns (their equation 30)."""
    x = power / (columns * variance)
    kept, noise = x[x > bound], x[x <= bound]
    between = kept - (1 + alpha)
    tau = (between + np.sqrt(between**2 - 4 * alpha)) / 2
    energy = (noise - np.log(noise)).sum() + (kept - tau).sum()
    return float(energy + np.log((tau + 1) / kept).sum() + alpha * np.log(tau / alpha + 1).sum())
