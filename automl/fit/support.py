"""The weights that stay, solved so that they make up for those that went: least squares for each row."""

from __future__ import annotations

import torch
from torch import Tensor

from automl.fit.moments import damped_cholesky

ENTRIES = 16_000_000
"""Entries of the systems that are solved at once: 128 MB."""


def refitted(weight: Tensor, kept: Tensor, second_moments: Tensor, damping: float) -> Tensor:
    """Rows of `weight` that are 0 but where `kept`, and there make the outputs of `weight` as nearly as they can.

    The least of D H D^T over all such rows, D the change of a row and H the second moments with `damping`: what the
    last weights come to in optimal brain surgery, whatever the order in which the others went; after a choice by
    magnitude AdaPrune (Hubara et al. 2021, "Accelerated sparse neural training", arXiv 2102.08124), solved in
    place of trained. An input that never varies leaves its weights as they are.

    `weight`: [out, features]; `kept`: bool, the same; `second_moments`: [features, features]. Returns float64.
    """
    weight = weight.double()
    factor = damped_cholesky(second_moments, damping)
    hessian = factor @ factor.T
    inverse = torch.cholesky_inverse(factor)
    lost = weight.masked_fill(kept, 0)
    few = kept.sum(1) * 2 <= kept.shape[1]  # of two ways to the same, that by the smaller systems
    out = weight.masked_fill(~kept, 0)
    out[few] += _solved(hessian, kept[few], lost[few] @ hessian)
    pulls = _solved(inverse, ~kept[~few], lost[~few])
    out[~few] -= (pulls @ inverse).masked_fill(~kept[~few], 0)
    return out


def _solved(matrix: Tensor, on: Tensor, right: Tensor) -> Tensor:
    """For each row the solution x of matrix[S, S] x = right[S], S the places where it is `on`, 0 elsewhere.

    `matrix`: [n, n], positive definite; `on`, `right`: [rows, n]. Returns [rows, n].
    """
    solution = torch.zeros_like(right)
    order = on.sum(1).argsort()  # rows of about as many places are solved at once
    start = len(order)
    while start:
        size = max(int(on[order[start - 1]].sum()), 1)
        rows = order[max(0, start - max(1, ENTRIES // size**2)) : start]
        start -= len(rows)
        places = (~on[rows]).to(torch.int8).argsort(dim=1, stable=True)[:, :size]  # [rows, size]
        there = on[rows].gather(1, places)
        systems = matrix[places[:, :, None], places[:, None, :]] * (there[:, :, None] & there[:, None, :])
        systems.diagonal(dim1=1, dim2=2).add_(~there)
        sides = (right[rows].gather(1, places) * there)[..., None]
        found = torch.cholesky_solve(sides, torch.linalg.cholesky(systems))[..., 0]
        solution[rows] = torch.zeros_like(right[rows]).scatter(1, places, found)
    return solution
