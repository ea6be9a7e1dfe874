"""Integers chosen by what an entropy code takes of them as well as by the error of the outputs.

Each weight becomes the integer with the least sum of its squared error and a price for the bits of its symbol: entropy-
constrained quantization (Chou, Lookabaugh & Gray 1989, "Entropy-constrained vector quantization"), in the passes of
`automl.fit.rounding`, so that the other weights make up for what that does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from automl.fit.descent import descended
from automl.fit.rounding import DAMPING, Rows, compensated, inverse_factor
from search_spaces.codecs.entropy import coded_bits, counts_of, fits
from search_spaces.codecs.number_formats import NumberFormat
from search_spaces.operators.code import counted, within_bits

PRICE = 0.13
"""Of a bit, in squared steps between two integers: near 2 ln 2 / 12, at which a finer step costs as many bits as it
saves error (Gish & Pierce 1968, "Asymptotically efficient quantizing"). Half of it and half as much again were 0 to 5 %
worse."""
TRIES = 4
"""How often the step is chosen anew at most."""
CLOSE = 0.03
"""A step that leaves at most so many of the bits unused, relatively, is not chosen anew."""
TIMES = 2
"""How often the bits of symbols are counted anew, and what follows from them."""
ROUNDS = 2
"""Of coordinate descent each time."""


LEAST_GAIN = 1e-3
"""Channels that a norm multiplies by less than this, relative to the mean, have steps as if it were so much."""
MOST_NUMBERS = 2**23
"""Weights of all formats that are tried at once, at most, unless one has more."""

Found = tuple[Tensor, Tensor]
"""Integers, int8 [out, features], and a scale, float32 [out]."""


class Priced:
    """Chooses integers by error and bits: of a layer in several formats, one below the other, as rows are alike."""

    def __init__(self, forms: Sequence[NumberFormat], there: Tensor, power: float) -> None:
        """`there`: which weights of the layer count, bool [out, features]. `power`: what a squared step costs in
        squared error where the price of a bit is `PRICE` of it."""
        self._forms, self._there, self._power = forms, there, power
        out = len(there)
        highest = np.array([form.highest for form in forms])
        widest = 2 * int(highest.max()) + 1
        self._bits = np.zeros((len(forms), widest))
        """Of each integer of each format, from the least: to be learnt before anything is chosen."""
        self._highest = highest.repeat(out).astype(float)[:, None]  # [formats * out, 1]
        self._zero = (np.arange(len(forms)) * widest + highest).repeat(out)[:, None]
        """Where the bits of 0 stand for each row: [formats * out, 1]."""

    def __call__(self, ratio: np.ndarray, curvature: np.ndarray, rows: Rows) -> np.ndarray:
        """The best of the nearest integer, the next one towards 0, and 0, for each of `ratio`, as of `Choose`."""
        price, bits = PRICE * self._power / curvature, self._bits.ravel()
        highest, zero = self._highest[rows], self._zero[rows]
        nearest = np.minimum(np.maximum(np.rint(ratio), -highest), highest)
        lower = nearest - np.sign(nearest)
        cost, less = ((one - ratio) ** 2 + price * bits[one.astype(int) + zero] for one in (nearest, lower))
        nothing = ratio**2 + price * bits[zero]
        best = np.where(less < cost, lower, nearest)
        return np.where(nothing < np.minimum(cost, less), 0.0, best)

    def learn(self, integers: Tensor) -> None:
        """Take the bits of symbols from how often they occur among `integers`, [formats * out, features], as often with
        one sign as the other."""
        for bits, form, part in zip(self._bits, self._forms, integers.chunk(len(self._forms)), strict=True):
            counts = counts_of(part[self._there], form).astype(float)
            counts = counts + counts[::-1] + 1
            bits[: len(counts)] = -np.log2(counts / counts.sum())


@dataclass
class _Search:
    """The search for the step at which one format is used up."""

    form: NumberFormat
    plain: Tensor
    """Integers to nearest, [out, features]."""
    step: float
    """Times the sizes of all channels."""
    best: Found
    fitting: bool = False
    """Whether `best` was found by a step, and is not to nearest."""
    ended: bool = False

    def learn(self, found: Found, there: Tensor) -> None:
        """Take what came of the step, if it is within the bits, and choose the next one."""
        used = coded_bits(counts_of(found[0][there], self.form)) / int(there.sum())
        wanted = self.form.stored_bits
        if used <= wanted:
            self.best, self.fitting, self.ended = found, True, used >= (1 - CLOSE) * wanted
        elif self.fitting:
            self.ended = True
        self.step *= 2 ** min(max(used - (1 - CLOSE / 2) * wanted, -1.0), 1.0)


def round_within_bits(
    weight: Tensor,
    moments: Tensor | None,
    forms: Sequence[NumberFormat],
    *,
    pruned: bool,
    gain: Tensor | None = None,
) -> list[Found]:
    """Integers and a scale for each of `forms`, in whose bits they are coded.

    The steps between integers are in the proportions of `step_sizes`; one factor for all of them is chosen so that the
    bits are used up. Weights that are 0 stay 0, and do not count if weights were `pruned`.

    `weight`: [out, features]; `moments`: second moments of the features, [features, features]; None: to nearest.
    `gain`: what a norm after the layer multiplies each output by, [out]; None: no norm.
    """
    there, sizes = counted(weight, pruned=pruned), step_sizes(torch.ones(len(weight)) if gain is None else gain)
    searches = []
    for form in forms:
        plain, scale = within_bits(weight, form, pruned=pruned)
        searches.append(_Search(form, plain, float((scale / sizes).median()), (plain.to(torch.int8), scale)))
    if moments is not None and (weight != 0).any():
        together = max(1, MOST_NUMBERS // weight.numel())
        for start in range(0, len(searches), together):
            _try_steps(weight, moments, searches[start : start + together], sizes, there)
    assert all(fits(search.best[0], search.form, there) for search in searches)
    return [search.best for search in searches]


def _try_steps(weight: Tensor, moments: Tensor, searches: Sequence[_Search], sizes: Tensor, there: Tensor) -> None:
    """Try steps for all formats at once, as passes over columns take as long for few rows as for many."""
    power = float((-2 * inverse_factor(moments, DAMPING).diagonal().log()).mean().exp())
    for _ in range(TRIES):
        left = [search for search in searches if not search.ended]
        if not left:
            break
        choose = Priced([search.form for search in left], there, power)
        choose.learn(torch.cat([search.plain for search in left]))
        scale = torch.cat([search.step * sizes for search in left])
        found = _rounded(weight.repeat(len(left), 1), moments, scale, choose, left[0].form)
        for search, *parts in zip(left, *(part.chunk(len(left)) for part in found), strict=True):
            search.learn((parts[0], parts[1]), there)


def step_sizes(gain: Tensor) -> Tensor:
    """In which proportions the steps of output channels are: [out], float32, above 0.

    They are alike in what the norm after the layer makes, so that a bit saves as much squared error in each channel,
    however large its weights (reverse water-filling: Cover & Thomas 2006, "Elements of information theory", section
    10.3.3). `gain`: what each output is multiplied by there, [out].
    """
    least = LEAST_GAIN * float(gain.abs().mean()) + torch.finfo(torch.float32).tiny
    return (1 / gain.double().abs().clamp_min(least)).float()


def _rounded(weight: Tensor, moments: Tensor, scale: Tensor, choose: Priced, form: NumberFormat) -> Found:
    """Integers and scale of one step each: compensated, then descended, with the bits of symbols as they come out."""
    integers = compensated(weight, moments, scale, form, choose=choose)
    for _ in range(TIMES):
        choose.learn(integers)
        integers, scale = descended(weight, moments, integers, scale, form, choose=choose, rounds=ROUNDS)
    return integers, scale
