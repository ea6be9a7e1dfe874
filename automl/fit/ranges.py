"""The ranges of quantized inputs: for each layer the one that rounds what it reads with the least squared error."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn

from automl.fast.precision import fast, formatted
from automl.tasks.batches import Batch
from search_spaces.graph.inputs import HIGHEST, quantized_inputs

SAMPLES = 256
"""Calibration samples that ranges are found on."""
NUMBERS = 2**16
"""So many of the numbers that a layer reads are looked at, beside the lowest and the highest of all."""
FRACTIONS = 60
"""How many fractions of the whole range are tried, evenly from 1 down to `LEAST`."""
LEAST = 0.3


@torch.no_grad()
def set_ranges(network: fx.GraphModule, batches: Sequence[Batch], dtype: torch.dtype = torch.float32) -> None:
    """Give each quantized input of `network` the range that suits `batches` best, in place.

    All are found in one pass of a copy in `dtype` that rounds no input: what is lost of the inputs of a layer with 8
    bits hardly changes the range of the next.
    """
    runner = fast(network, dtype)
    read: dict[str, list[Tensor]] = {}
    samples = sum(len(targets) for _, targets in batches)
    for name, module in quantized_inputs(runner):
        read[name] = []
        module.register_forward_hook(_Watch(read[name], samples))
    for inputs, _ in formatted(batches, dtype):
        runner(*inputs)
    for name, module in quantized_inputs(network):
        if read[name]:
            scale, zero = best_range(torch.cat(read[name]))
            module.range.copy_(torch.tensor([scale, float(zero)]))


class _Watch:
    """Keeps some of the numbers that a layer reads, and hands all of them on as they are."""

    def __init__(self, kept: list[Tensor], samples: int) -> None:
        self._kept, self._samples = kept, samples
        self._random = torch.Generator().manual_seed(0)

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        x = args[0].float().flatten()
        some = min(len(x), max(1, NUMBERS * len(args[0]) // self._samples))
        which = torch.randint(len(x), (some,), generator=self._random)
        self._kept.append(torch.cat([x[which], x.min().view(1), x.max().view(1)]))
        return args[0]


def best_range(numbers: Tensor) -> tuple[float, int]:
    """The scale and the zero point, 0 to 255, that round `numbers`, [n], with the least squared error.

    The lowest and the highest of the 256 are the lowest and the highest number times one fraction; `FRACTIONS` of them
    are tried, 1 being one. 0 stays 0. The scale is a number that bfloat16 holds.
    """
    lowest, highest = min(float(numbers.min()), 0.0), max(float(numbers.max()), 0.0)
    if highest == lowest:
        return 1.0, 0
    best, least = (1.0, 0), float("inf")
    for fraction in torch.linspace(1, LEAST, FRACTIONS).tolist():
        scale = float(torch.tensor(fraction * (highest - lowest) / HIGHEST).bfloat16())
        if scale == 0:  # of numbers that are all but 0
            continue
        zero = round(min(max(-fraction * lowest / scale, 0), HIGHEST))
        rounded = (numbers / scale).round().clamp(-zero, HIGHEST - zero) * scale
        error = float((rounded - numbers).square().sum())
        if error < least:
            best, least = (scale, zero), error
    return best
