"""Integers chosen by what an entropy code takes of them as well as by the error of the outputs.

Each weight becomes the integer with the least sum of its squared error and a price for the bits of its symbol: entropy-
constrained quantization (Chou, Lookabaugh & Gray 1989, "Entropy-constrained vector quantization"), in the passes of
`automl.fit.rounding`, so that the other weights make up for what that does.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from automl.fit.rounding import DAMPING, compensated, descended, inverse_factor
from search_spaces.codecs.entropy import coded_bits, counts_of, fits
from search_spaces.codecs.number_formats import NumberFormat
from search_spaces.operators.code import channel_spread, counted, within_bits

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


@dataclass
class Priced:
    """Chooses integers by error and bits."""

    form: NumberFormat
    power: float
    """What a squared step costs in squared error where the price of a bit is `PRICE` of it."""
    bits: Tensor = field(default_factory=lambda: torch.zeros(0))
    """Of each integer, [2 * highest + 1], 0 in the middle: to be learnt before anything is chosen."""

    def __call__(self, ratio: Tensor, curvature: Tensor) -> Tensor:
        """The best of the nearest integer, the next one towards 0, and 0, for each of `ratio`, [out].

        `curvature`: what a squared error of each of these weights costs, a number.
        """
        highest, price = self.form.highest, PRICE * self.power / curvature
        nearest = ratio.round().clamp(-highest, highest)
        candidates = torch.stack([nearest, nearest - nearest.sign(), torch.zeros_like(nearest)])  # [3, out]
        costs = (candidates - ratio).square() + price * self.bits[(candidates + highest).long()]
        return candidates.gather(0, costs.argmin(0, keepdim=True))[0]

    def learn(self, integers: Tensor) -> None:
        """Take the bits of symbols from how often they occur among `integers`, as often with one sign as the other."""
        counts = torch.from_numpy(counts_of(integers, self.form)).double()
        counts = counts + counts.flip(0) + 1
        self.bits = -(counts / counts.sum()).log2()


def round_within_bits(
    weight: Tensor, moments: Tensor | None, form: NumberFormat, *, pruned: bool
) -> tuple[Tensor, Tensor]:
    """Integers, int8 [out, features], and a scale, float32 [out], that are coded in the bits of `form`.

    All steps between integers are in one proportion to the spread of their channel's weights; it is chosen so that the
    bits are used up. Weights that are 0 stay 0, and do not count if weights were `pruned`.

    `weight`: [out, features]; `moments`: second moments of the features, [features, features]; None: to nearest.
    """
    plain, scale = within_bits(weight, form, pruned=pruned)
    best = plain.to(torch.int8), scale
    if moments is None or not (weight != 0).any():
        return best
    there, spread = counted(weight, pruned=pruned), channel_spread(weight)
    upper = inverse_factor(moments, DAMPING)
    power = float((-2 * upper.diagonal().log()).mean().exp())
    step = float((scale / spread).median())
    fitting = False
    for _ in range(TRIES):
        choose = Priced(form, power)
        choose.learn(plain[there])
        found = _rounded(weight, moments, step * spread, choose, there)
        used = coded_bits(counts_of(found[0][there], form)) / int(there.sum())
        if used <= form.stored_bits:
            best, fitting = found, True
            if used >= (1 - CLOSE) * form.stored_bits:
                break
        elif fitting:
            break
        step *= 2 ** min(max(used - (1 - CLOSE / 2) * form.stored_bits, -1.0), 1.0)
    assert fits(best[0], form, there)
    return best


def _rounded(weight: Tensor, moments: Tensor, scale: Tensor, choose: Priced, there: Tensor) -> tuple[Tensor, Tensor]:
    """Integers and scale of one step: compensated, then descended, with the bits of symbols as they come out."""
    integers = compensated(weight, moments, scale, choose.form, choose=choose)
    for _ in range(TIMES):
        choose.learn(integers[there])
        integers, scale = descended(weight, moments, integers, scale, choose.form, choose=choose, rounds=ROUNDS)
    return integers, scale
