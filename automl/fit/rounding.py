"""Integer weights: a whole number for each weight and a scale for each output channel, symmetric around 0.

Weights are rounded to the nearest step, or one after the other in such a way that those of the same row which are not
rounded yet make up for the error, as far as the second moments of the layer's input let them.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from automl.fit.moments import damped_cholesky, squared_errors
from search_spaces.codecs.integers import dequantized
from search_spaces.codecs.number_formats import NumberFormat
from search_spaces.operators.code import nearest_integer

FACTORS = 50
"""How many clipping factors are tried for each scale, evenly from 1 down to `LOWEST`."""

LOWEST = 0.3

LOWEST_OF_FEW = 0.06
"""The same in formats of at most `FEW` integers, whose highest stands for far less than the largest weight."""

FEW = 4

DAMPING = 0.01
"""Added to the diagonal of the second moments, relative to its mean, as GPTQ does."""

BLOCK = 128
"""So many columns hand their errors on to all columns after them in one matrix product."""

TRIED_AT_ONCE = 32_000
"""About so many weights are rounded at once to find a scale, so that they stay in the processor's cache."""


Rows = np.ndarray | slice
"""Which rows of a weight."""


class Choose(Protocol):
    """Says which integer each weight becomes.

    It is asked for one column after the other, and for a few weights: in NumPy, whose calls take a third of torch's.
    """

    def __call__(self, ratio: np.ndarray, curvature: np.ndarray, rows: Rows) -> np.ndarray:
        """The integers for `ratio`, weights in steps of their rows' scales, [rows, columns]: in its shape.

        `curvature`: what a squared error in each column costs, [columns]; `rows`: which these are of all.
        """


def scales(weight: Tensor, form: NumberFormat, power: Tensor | None = None) -> Tensor:
    """The scale of each output channel that rounds to nearest with the least squared error: [out], float32.

    The highest number stands for the largest weight times a clipping factor; `FACTORS` of them are tried, 1 being
    one, so that the error is never above that without clipping. A channel of zeros has the smallest scale that can be
    divided by.

    `weight`: [out, features]; `power`: mean square of each feature, [features], which weighs the errors, as if
    features were uncorrelated. Without it all weights count alike.
    """
    weight = weight.double()
    absmax = weight.abs().amax(1) / form.highest
    lowest = LOWEST if len(form.grid) > FEW else LOWEST_OF_FEW
    tried = positive(torch.linspace(1, lowest, FACTORS, dtype=torch.float64)[:, None] * absmax)  # [factors, out]
    errors = []
    for scale in tried.split(max(1, TRIED_AT_ONCE // weight.numel())):
        along = scale.double()[:, :, None]
        squares = nearest_integer(weight / along, form).mul_(along).sub_(weight).square_()  # [some, out, features]
        errors.append(squares.sum(2) if power is None else squares @ power.double())
    return tried.gather(0, torch.cat(errors).argmin(0, keepdim=True))[0]


def nearest(weight: Tensor, scale: Tensor, form: NumberFormat, *, pruned: bool = False) -> Tensor:
    """The nearest number of steps to each weight, [out, features], among those of `form`: int8.

    Weights that are 0 stay 0, also where `form` has no 0 if they are `pruned`.
    """
    integers = _rounded(weight.double(), scale, form).to(torch.int8)
    return integers.masked_fill(stays_zero(weight, form, pruned=pruned), 0)


def compensated(
    weight: Tensor,
    second_moments: Tensor,
    scale: Tensor,
    form: NumberFormat,
    *,
    pruned: bool = False,
    damping: float = DAMPING,
    choose: Choose | None = None,
) -> Tensor:
    """Whole numbers of steps, chosen so that the weights of a row make up for each other's errors: int8.

    Column after column is rounded, and what that does to the outputs is undone, as far as it can be, by the columns
    not rounded yet (the optimal brain quantizer: Frantar & Alistarh 2022, "Optimal Brain Compression", section 5; in
    one order for all rows, by the Cholesky factor of the inverse second moments: Frantar et al. 2023, "GPTQ",
    arXiv 2210.17323, equation 2 and Algorithm 1). Columns of high power come first, while most others can still help:
    on ResNet-20 that took 12 % off the error of the given order, at 3 and 4 bits alike.

    Weights that are 0 stay 0 as in `nearest`; the others make up for what they would have become. An output that would
    come out worse than rounded to nearest is rounded to nearest: the error is never above that. Unless `choose` says
    which integer a weight becomes: then that is the whole answer.

    `weight`: [out, features]; `second_moments`: [features, features] a row, of one group; `scale`: [out], float32.
    """
    order = second_moments.diagonal().argsort(descending=True)
    left = weight.double().T[order].contiguous()  # what each weight has become, until it is rounded: [features, out]
    stays = stays_zero(left, form, pruned=pruned)
    upper = inverse_factor(second_moments[order[:, None], order], damping)
    found = torch.empty(weight.shape, dtype=type_of(form))
    for start in range(0, len(left), BLOCK):
        block = slice(start, start + BLOCK)
        parts = (part.numpy() for part in (left[block], upper[block, block], scale.double(), stays[block]))
        integers, errors = map(torch.from_numpy, _compensated_block(choose or nearest_of(form), *parts))
        found[:, order[block]] = integers.T.to(found.dtype)
        left[start + BLOCK :] -= upper[block, start + BLOCK :].T @ errors
    if choose is not None:
        return found
    plain = nearest(weight, scale, form, pruned=pruned)
    found_errors, plain_errors = (
        squared_errors(dequantized(which, scale) - weight.double(), second_moments) for which in (found, plain)
    )
    return torch.where((found_errors > plain_errors)[:, None], plain, found)


def _compensated_block(
    choose: Choose, left: np.ndarray, upper: np.ndarray, along: np.ndarray, stays: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The integers of some columns, and the errors that columns after them have to make up for: [columns, out] each.

    `left`, which is changed: [columns, out]; `upper`: [columns, columns]; `along`: [out]; `stays`: [columns, out].
    """
    integers, errors, some = np.empty_like(left), np.empty_like(left), stays.any()
    for i, own in enumerate(upper.diagonal()):
        chosen = choose((left[i] / along)[:, None], own**-2, slice(None))[:, 0]
        if some:
            chosen[stays[i]] = 0
        integers[i], errors[i] = chosen, (left[i] - chosen * along) / own
        left[i + 1 :] -= upper[i, i + 1 :, None] * errors[i]
    return integers, errors


def error(weight: Tensor, quantized: Tensor, second_moments: Tensor, importance: Tensor) -> float:
    """What `quantized` in place of `weight`, [out, features], costs: the squared error of each output, weighted.

    The sum over outputs of importance * D second_moments D^T, D the change of its weights: twice the rise of the loss
    if `importance` is the `output_fisher` of the layer, as the errors of `automl.fit.surgeon` are.
    """
    return float(squared_errors(quantized.double() - weight.double(), second_moments) @ importance.double())


def inverse_factor(second_moments: Tensor, damping: float) -> Tensor:
    """The upper triangular U with U^T U = (second moments + damping)^-1."""
    # The lower factor of the moments in reverse order is, in this order, an upper R with R R^T = moments: U = R^-1.
    upper = damped_cholesky(second_moments.flip(0, 1), damping).flip(0, 1)
    inverse: Tensor = torch.linalg.solve_triangular(upper, torch.eye(len(upper), dtype=upper.dtype), upper=True)
    return inverse


def nearest_of(form: NumberFormat) -> Choose:
    """Chooses what `nearest_integer` of a format is."""

    def choose(ratio: np.ndarray, curvature: np.ndarray, rows: Rows) -> np.ndarray:
        nearest: np.ndarray = np.rint(ratio) if form.has_zero else 2 * np.floor(ratio / 2) + 1
        np.maximum(nearest, -form.highest, out=nearest)
        np.minimum(nearest, form.highest, out=nearest)
        return nearest

    return choose


def type_of(form: NumberFormat) -> torch.dtype:
    """Of what weights become: of integers, or of any numbers where they are those of a codebook."""
    return torch.float64 if form.centroids else torch.int8


def stays_zero(weight: Tensor, form: NumberFormat, *, pruned: bool) -> Tensor:
    """Which weights are 0 and have to stay: bool, in their shape."""
    return (weight == 0) if form.has_zero or pruned else torch.zeros_like(weight, dtype=torch.bool)


def _rounded(weight: Tensor, scale: Tensor, form: NumberFormat) -> Tensor:
    return nearest_integer(weight / scale.double()[:, None], form)


def positive(scale: Tensor) -> Tensor:
    """Scales that can be divided by, in float32."""
    return scale.float().clamp_min(torch.finfo(torch.float32).tiny)
