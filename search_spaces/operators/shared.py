"""Weights that share a few numbers: a codebook of a layer, by k-means."""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDS = 40
"""Of k-means at most."""


def clustered(weight: Tensor, centroids: int, power: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """A codebook, [centroids] float32 ascending, and the place in it of each weight, in the shape of `weight`.

    Lloyd's k-means from centroids that lie evenly between the least and the largest weight, which found better ones
    than random or density-based ones (Han et al. 2016, "Deep Compression", section 3.2). If a weight is 0 one centroid
    is 0 and stays so, and weights that are 0 take it. A centroid that no weight takes stays where it is.

    `power`: what a squared error of each weight costs, in its shape; None: as much for all.
    """
    values = weight.detach().double().flatten()
    costs = torch.ones_like(values) if power is None else power.double().flatten() + 1e-12 * float(power.mean()) + 1e-30
    book = torch.linspace(float(values.min()), float(values.max()), centroids, dtype=torch.float64)
    zero = bool((values == 0).any())
    if zero:
        book[book.abs().argmin()] = 0.0
    fixed = book == 0 if zero else torch.zeros_like(book, dtype=torch.bool)
    places = nearest_centroid(values, book)
    for _ in range(ROUNDS):
        taken = torch.zeros_like(book).index_add_(0, places, costs)
        means = torch.zeros_like(book).index_add_(0, places, costs * values) / taken
        book = torch.where((taken > 0) & ~fixed, means, book)
        before, places = places, nearest_centroid(values, book)
        if torch.equal(before, places):
            break
    return book.float(), places.view(weight.shape)


def nearest_centroid(values: Tensor, book: Tensor) -> Tensor:
    """The place of the nearest of `book`, [centroids] in any order, to each of `values`: int64, in their shape."""
    ascending, order = book.double().sort()
    found = torch.bucketize(values.double(), (ascending[1:] + ascending[:-1]) / 2)
    return order[found]
