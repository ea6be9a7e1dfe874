"""Weights that share the numbers of a codebook, which the inputs of the layer make the best of.

Deep Compression (Han et al. 2016, section 3) puts centroids evenly between the least and the largest weight and moves
them by k-means, which makes the squared error of the weights least. Here that of the outputs is made least: weights
count as the power of their inputs does; then each takes a centroid in such a way that others make up for the error, as
integers do (`automl.fit.rounding`), and centroids are fitted to all outputs at once, by least squares.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from automl.fit.alternating import conjugate_steps
from automl.fit.descent import descended
from automl.fit.moments import damped, moments_of, shift_of, squared_errors
from automl.fit.rounding import DAMPING, Choose, Rows, compensated
from search_spaces.codecs.number_formats import NumberFormat
from search_spaces.operators.shared import clustered, nearest_centroid

ROUNDS = 3
"""So often weights take other centroids, and centroids are fitted to them."""
STEPS = 16
"""Of conjugate gradients for the centroids each time."""


@dataclass(frozen=True)
class SharedWeights:
    """A layer's weight whose numbers are those of a codebook."""

    weight: Tensor
    """float32, in the shape of the layer's."""
    table: Tensor
    """The codebook: [centroids], float32, ascending."""
    shift: Tensor
    """What a bias or batch norm after the layer has to gain, so that the mean output stays: [out], float64."""


def share_layer(weight: Tensor, form: NumberFormat, grams: Tensor | None, *, intercept: bool) -> SharedWeights:
    """A layer's weight, [out, ...], with the centroids of `form`; by plain k-means where `grams` is None.

    `grams`: what `Gram.matrix` is; layers of several groups are clustered by the power of their inputs alone. Weights
    that are 0 stay 0, which is then one of the centroids. `intercept` as in `round_layer`.
    """
    flat = weight.detach().flatten(1)
    if grams is None:
        book, places = clustered(flat, form.centroids)
        return SharedWeights(book[places].view(weight.shape), book, torch.zeros(len(flat), dtype=torch.float64))
    found = [moments_of(gram, intercept=intercept) for gram in grams]
    rows = len(flat) // len(found)
    power = torch.cat([second.diagonal().expand(rows, -1) for second, _ in found]).clamp_min(0)
    book, places = clustered(flat, form.centroids, power)
    if len(found) == 1:
        book, places = _fitted(flat, found[0][0], form, book, places)
    shared = book[places]
    change = (shared.double() - flat.double()).chunk(len(found))
    shift = torch.cat([shift_of(part, mean) for part, (_, mean) in zip(change, found, strict=True)])
    return SharedWeights(shared.view(weight.shape), book, shift)


def _fitted(weight: Tensor, moments: Tensor, form: NumberFormat, book: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Codebook and places, [out, features], with less error of the outputs than those given, or as much."""
    if not (weight != 0).any():
        return book, places
    heavy, one = damped(moments, DAMPING), torch.ones(len(weight))

    def error(which: tuple[Tensor, Tensor]) -> float:
        return float(squared_errors(which[0][which[1]].double() - weight.double(), moments).sum())

    best = book, places
    book = _refitted(weight, heavy, book, places)
    values = compensated(weight, moments, one, form, choose=_nearest_of(book))
    for _ in range(ROUNDS):
        places = nearest_centroid(values, book)
        book = _refitted(weight, heavy, book, places)
        best = min(best, (book, places), key=error)
        values, _ = descended(weight, moments, book[places], one, form, choose=_nearest_of(book), rounds=1)
    places = nearest_centroid(values, book)
    return _ascending(*min(best, (_refitted(weight, heavy, book, places), places), key=error))


def _nearest_of(book: Tensor) -> Choose:
    """Chooses the centroid that is nearest to each weight."""

    def choose(ratio: np.ndarray, curvature: np.ndarray, rows: Rows) -> np.ndarray:
        return book.double()[nearest_centroid(torch.from_numpy(ratio), book)].numpy()

    return choose


def _refitted(weight: Tensor, moments: Tensor, book: Tensor, places: Tensor) -> Tensor:
    """The centroids that make the least error with these places; one of 0 stays, as zeros of the weight do."""
    free = (book != 0).double()
    target, at = weight.double(), places.flatten()

    def back(change: Tensor) -> Tensor:  # of [out, features]
        moved = (change @ moments).flatten()
        return torch.zeros(len(book), dtype=torch.float64).index_add_(0, at, moved) * free

    residual = back(target - book.double()[places])
    found = conjugate_steps(book.double(), residual, lambda direction: back(direction[places]), STEPS)
    return found.float()


def _ascending(book: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """The same with centroids in order."""
    order = book.argsort(stable=True)
    where = torch.empty_like(order)
    where[order] = torch.arange(len(order))
    return book[order], where[places]
