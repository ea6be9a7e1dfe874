"""A learnt kernel between architectures: an LSTM reads each layer by layer into a vector (Cao et al. 2019, section 3).

Two LSTMs, one reading forwards and one backwards, give each layer a vector; the mean over layers, scaled to length 1,
is the architecture's embedding, and the kernel is Gaussian in it. It is trained so that each architecture's value is
well predicted by all others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.networks import seeded

SCALE = 0.1
"""Length-scale of the kernel: exp(-d^2 / (2 * 0.01)), the paper's."""

NOISE = 0.05
"""Variance of the observations' noise, the paper's."""

STOP = 1e-3
"""Training ends once the likelihood (an architecture's share of it) is this near to its moving average, as released."""


class Padded:
    """Sequences of different lengths side by side, read in both directions; what is padded comes after the end."""

    def __init__(self, sequences: Sequence[np.ndarray]) -> None:
        """`sequences`: [n_rows, n_columns] each, float32. One without rows counts as one row of zeros."""
        lengths = [max(len(rows), 1) for rows in sequences]
        shape = (len(sequences), max(lengths), sequences[0].shape[1])
        forwards, backwards = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        for i, rows in enumerate(sequences):
            forwards[i, : len(rows)], backwards[i, : len(rows)] = rows, rows[::-1]
        self.forwards, self.backwards = torch.from_numpy(forwards), torch.from_numpy(backwards)  # [n, longest, columns]
        there = np.arange(shape[1]) < np.array(lengths)[:, None]
        self.weights = torch.from_numpy(there / np.array(lengths)[:, None]).float()  # [n, longest], of the mean


class Embedding(nn.Module):
    """Architectures as vectors of length 1."""

    def __init__(self, columns: int, hidden: int, layers: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.directions = nn.ModuleList(
            seeded(nn.LSTM, columns, hidden, layers, bound=1 / math.sqrt(hidden), rng=rng, batch_first=True)
            for _ in range(2)
        )

    def forward(self, batch: Padded) -> Tensor:
        """[n, 2 * hidden]."""
        out = []
        for lstm, rows in zip(self.directions, (batch.forwards, batch.backwards), strict=True):
            out.append(torch.einsum("nt,nth->nh", batch.weights, lstm(rows)[0]))
        return F.normalize(torch.cat(out, dim=1), dim=1)


def kernel(a: Tensor, b: Tensor) -> Tensor:
    """exp(-|a - b|^2 / (2 SCALE^2)) of vectors of length 1, [n, d] and [m, d]: [n, m]."""
    return torch.exp((a @ b.T - 1) / SCALE**2)


def leave_one_out(covariance: Tensor, y: Tensor) -> Tensor:
    """log p(y_i | all others) of a zero-mean process, noise included in `covariance` ([n, n]); `y` and result: [n].

    Rasmussen & Williams 2006, equations 5.10 to 5.13: with the inverse P of the covariance, mean y_i - [P y]_i / P_ii
    and variance 1 / P_ii. One Cholesky factor instead of n.
    """
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(covariance))
    precision = inverse.diagonal()
    missed = inverse @ y / precision
    return 0.5 * (precision.log() - precision * missed**2 - math.log(2 * math.pi))


def train(embedding: Embedding, batch: Padded, y: Tensor, *, steps: int, lr: float, weight_decay: float) -> list[float]:
    """Adam on the mean log likelihood of each value given the others: its course, [at most steps].

    `y`: [n], in the order of `batch`.
    """
    step = torch.optim.Adam(embedding.parameters(), lr, weight_decay=weight_decay, fused=True)
    course: list[float] = []
    average: float | None = None
    for _ in range(steps):
        likelihood = leave_one_out(noisy(kernel(*(embedding(batch),) * 2)), y).mean()
        step.zero_grad()
        (-likelihood).backward()
        step.step()
        course.append(likelihood.item())
        average = course[-1] if average is None else (average + course[-1]) / 2
        if len(course) > 1 and abs(average - course[-1]) < STOP:
            break
    return course


def noisy(covariance: Tensor) -> Tensor:
    """With the noise of observation on the diagonal, in double precision: [n, n]."""
    return covariance.double() + NOISE * torch.eye(len(covariance), dtype=torch.float64)


def predict(known: Tensor, y: Tensor, new: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation at embeddings `new` ([m, d]) given `y` ([n]) at `known` ([n, d]): [m] each."""
    root = torch.linalg.cholesky(noisy(kernel(known, known)))
    across = kernel(known, new).double()  # [n, m]
    mean = across.T @ torch.cholesky_solve(y[:, None], root)[:, 0]
    explained = torch.linalg.solve_triangular(root, across, upper=False).square().sum(dim=0)
    return mean.numpy(), (1 - explained).clamp_min(1e-9).sqrt().numpy()
