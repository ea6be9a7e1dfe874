"""A random order of samples in which every beginning has its fair share of each class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

TENTHS = 10


def stratified_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """A permutation of the samples of `labels` [n]; of any first k, each class has its share to within about one.

    So subsets cut from it one after the other are stratified and disjoint, and a larger subset contains a smaller.
    """
    rng = np.random.default_rng(seed)
    position = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        ranks = np.arange(len(members)) + rng.random(len(members))  # the class's samples spread evenly over [0, 1)
        position[rng.permutation(members)] = ranks / len(members)
    return np.argsort(position, kind="stable")


def strata(targets: Tensor) -> np.ndarray:
    """Of what each part of the samples is to have its share: classes [n], or of numbers [n, k] the tenth of the samples
    in which the first lies."""
    values: np.ndarray = targets.numpy()
    if values.ndim == 1:
        return values
    edges = np.quantile(values[:, 0], np.arange(1, TENTHS) / TENTHS)
    return np.searchsorted(edges, values[:, 0])
