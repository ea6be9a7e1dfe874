"""A layer in whole numbers: rounded group by group to what its format can be, with the shift that this asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from automl.fit.descent import descended
from automl.fit.entropy_rounding import round_within_bits
from automl.fit.moments import moments_of, shift_of
from automl.fit.rounding import compensated, nearest, scales
from search_spaces.codecs.integers import dequantized
from search_spaces.codecs.number_formats import NumberFormat


@dataclass(frozen=True)
class Rounded:
    """A layer's weight in whole numbers."""

    integers: Tensor
    """int8, in the shape of the weight."""
    scale: Tensor
    """[out], float32."""
    shift: Tensor
    """What a bias or batch norm after the layer has to gain, so that the mean output stays: [out], float64."""

    @property
    def table(self) -> Tensor:
        """What the file needs beside the whole numbers: the scale."""
        return self.scale

    @property
    def weight(self) -> Tensor:
        """The weight that the whole numbers stand for, float32."""
        return dequantized(self.integers, self.scale)


def round_layer(
    weight: Tensor,
    form: NumberFormat,
    grams: Tensor | None,
    *,
    intercept: bool,
    pruned: bool = False,
    gain: Tensor | None = None,
) -> Rounded:
    """A layer's weight, [out, ...], rounded with compensation; to nearest where `grams` is None.

    `grams`: what `Gram.matrix` is, one augmented matrix a group: [groups, features + 1, features + 1]. `intercept` says
    whether something after the layer can take up the shift; else the error counts the mean too, and the shift is 0.
    Weights that are 0 stay 0, also where `form` has no 0 if they are `pruned`. `gain`: what a norm
    after the layer multiplies each output by, [out], which formats for an entropy code share out their bits by.
    """
    flat = weight.detach().flatten(1)  # [out, features]
    if form.coded:
        return round_coded(weight, [form], grams, intercept=intercept, pruned=pruned, gain=gain)[0]
    if grams is None:
        scale = scales(flat, form)
        integers = nearest(flat, scale, form, pruned=pruned)
        return Rounded(integers.view(weight.shape), scale, torch.zeros(len(flat), dtype=torch.float64))
    parts = []
    for part, gram in zip(flat.chunk(len(grams)), grams, strict=True):
        moments, mean = moments_of(gram, intercept=intercept)
        scale = scales(part, form, moments.diagonal().clamp_min(0))
        integers = compensated(part, moments, scale, form, pruned=pruned)
        integers, scale = descended(part, moments, integers, scale, form)
        parts.append((integers, scale, shift_of(dequantized(integers, scale) - part.double(), mean)))
    integers, scale, shift = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return Rounded(integers.view(weight.shape), scale, shift)


def round_coded(
    weight: Tensor,
    forms: Sequence[NumberFormat],
    grams: Tensor | None,
    *,
    intercept: bool,
    pruned: bool = False,
    gain: Tensor | None = None,
) -> list[Rounded]:
    """The same in each of several formats for an entropy code, which takes hardly longer than one.

    The code is one of the whole tensor: layers of several groups are rounded to nearest.
    """
    flat = weight.detach().flatten(1)
    known = [] if grams is None else [moments_of(gram, intercept=intercept) for gram in grams]
    moments = known[0][0] if len(known) == 1 else None
    made = []
    for integers, scale in round_within_bits(flat, moments, forms, pruned=pruned, gain=gain):
        shift = torch.zeros(len(flat), dtype=torch.float64)
        if known:
            parts = (dequantized(integers, scale) - flat.double()).chunk(len(known))
            shift = torch.cat([shift_of(part, mean) for part, (_, mean) in zip(parts, known, strict=True)])
        made.append(Rounded(integers.view(weight.shape), scale, shift))
    return made
