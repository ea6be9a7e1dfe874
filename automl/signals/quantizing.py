"""Weights of a network that draws a signal in whole steps: how large the steps are, and training with them.

The pipeline of Strümpler et al. 2022, "Implicit neural representations for image compression", arXiv 2112.04267: fit,
quantize, tune the rounding (`automl.signals.tuned_rounding`), train quantization-aware, entropy code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call

from automl.errors import ExportError
from automl.signals.inr_file import integer_file, set_tensors, step_bytes, tensors_of
from automl.signals.inr_reader import Layout, network_of, step_of
from automl.signals.signal import Signal, coordinates
from automl.signals.siren import Siren

PROBE, DRAWS = 0.05, 4
"""How large a change is, in root mean squares of a tensor, by which its weight in the error is found; how many are
drawn."""
LOOKED_AT = 2**14
"""At how many points."""
FINEST, COARSEST, PARTS = -24, 8, 16
"""Steps are tried from 2^-24 to 2^8 times the relative ones, so many of them an octave."""


@dataclass(frozen=True)
class Grid:
    """Which numbers the weights can be: whole steps, from nothing or from a start."""

    steps: bytes
    """A byte for each tensor, as a file has it (`step_of`)."""
    start: tuple[Tensor, ...] = ()
    """What is added to the steps; nothing for zeros."""
    there: tuple[Tensor | None, ...] = ()
    """Of each tensor where it may differ from the start, bool in its shape, None for everywhere; nothing for none."""

    def integers(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The nearest numbers of steps, in the shapes of `tensors`."""
        return [(part / step_of(byte)).round() for part, byte in zip(self._moved(tensors), self.steps, strict=True)]

    def rounded(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The nearest numbers on the grid: float32, as a reader gets them."""
        return self.values(self.integers(tensors))

    def values(self, integers: Sequence[Tensor]) -> list[Tensor]:
        """What numbers of steps stand for."""
        found = [q * step_of(byte) for q, byte in zip(integers, self.steps, strict=True)]
        return [s + d for s, d in zip(self.start, found, strict=True)] if self.start else found

    def through(self, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Parameters on the grid, whose gradients go straight through the rounding (Bengio et al. 2013)."""
        on_grid = self.rounded([p.detach() for p in named.values()])
        return {name: p + (q - p).detach() for (name, p), q in zip(named.items(), on_grid, strict=True)}

    def _moved(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return [t - s for t, s in zip(tensors, self.start, strict=True)] if self.start else list(tensors)


@torch.no_grad()
def relative_steps(network: Siren, signal: Signal, seed: int = 0) -> list[float]:
    """The steps of the tensors, up to a common factor, with which each weight adds the same to the error.

    Rounding to steps d adds noise of variance d^2 / 12 (Bennett 1948), and at a given rate the error is least where
    the noise of every weight does as much harm (Gersho & Gray 1992, section 8.3). How much it does is measured: the
    mean square by which outputs change when the weights of a tensor that are not 0 get noise of `PROBE` their size.
    """
    generator = torch.Generator().manual_seed(seed)
    places = coordinates(signal.shape)[torch.randperm(signal.points, generator=generator)[:LOOKED_AT]]
    named = dict(network.named_parameters())
    before, steps = network(places), []
    for name, tensor in named.items():
        there = tensor != 0
        number = max(int(there.sum()), 1)
        size = float((tensor.square().sum() / number).sqrt()) or 1.0
        harm = 0.0
        for _ in range(DRAWS):
            noise = PROBE * size * there * torch.randn(tensor.shape, generator=generator)
            outputs = functional_call(network, named | {name: tensor + noise}, (places,))
            harm += float((outputs - before).square().mean()) / DRAWS
        steps.append(PROBE * size / math.sqrt(max(harm / number, 1e-12)))
    return steps


def grid_within(
    network: Siren,
    layout: Layout,
    relative: Sequence[float],
    most: int,
    start: Sequence[Tensor],
    there: Sequence[Tensor | None] = (),
) -> Grid:
    """The finest grid with steps in proportion to `relative` in which the file takes at most `most` bytes.

    `start`: the tensors that a difference is from, or none; `there`: where it may be one. Raises
    `ExportError` if no grid is coarse enough.
    """
    low, high = FINEST * PARTS, COARSEST * PARTS

    def grid(place: int) -> Grid:
        return Grid(step_bytes([step * 2 ** (place / PARTS) for step in relative]), tuple(start), tuple(there))

    if len(file_of(network, layout, grid(high))) > most:
        raise ExportError(f"expected room for the header and steps of a file, got {most} bytes. Allow more")
    while high - low > 1:  # what takes too much room is below, what fits above
        middle = (low + high) // 2
        if too_large(network, grid(middle), most) or len(file_of(network, layout, grid(middle))) > most:
            low = middle
        else:
            high = middle
    return grid(high)


def too_large(network: Siren, grid: Grid, most: int) -> bool:
    """Whether it is plain without coding that the integers take more than `most` bytes: half their digits alone do."""
    digits = sum(float((q.abs() + 1).log2().sum()) for q in grid.integers(tensors_of(network)))
    return digits / 16 > most


def file_of(network: Siren, layout: Layout, grid: Grid) -> bytes:
    """The content of the file of `network` rounded to the grid."""
    integers = grid.integers(tensors_of(network))
    masks = grid.there or [None] * len(integers)
    stored = [whole if mask is None else whole[mask] for whole, mask in zip(integers, masks, strict=True)]
    return integer_file(layout, stored, grid.steps)


def load_file(network: Siren, content: bytes, start: bytes | None = None) -> None:
    """Give `network` the weights that the file with this content has."""
    set_tensors(network, network_of(content, start).tensors)
