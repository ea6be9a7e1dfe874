"""A signal becomes a file: a network is fitted, its weights are stored in so many bytes, and the file is read again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from automl.errors import ConfigError, ExportError
from automl.signals.fitting import Tell, fit
from automl.signals.inr_file import half_file, header, layout_of, set_tensors, siren_of, tensors_of
from automl.signals.inr_reader import Layout, Network, drawn, network_of
from automl.signals.quantizing import file_of, grid_within, relative_steps
from automl.signals.shapes import HALF_BITS, Shape
from automl.signals.signal import Signal, Values, bits_per_point, psnr, ssim
from automl.signals.signal_files import stored_values
from automl.signals.siren import FourierFeatures, Siren
from automl.signals.tuned_rounding import tune_rounding
from automl.training.methods.base import Method

POINTS = 4096
"""About so many points are looked at in a step."""
FITTED, ON_GRID = 0.5, 0.5
"""The parts of the steps before weights are put on a grid, and after."""
GRID_RATE = 0.5
"""Of the rate of the fit: that on the grid. At a fifth of it nothing was gained over the nearest numbers."""
AGAIN = 3
"""How often weights that take more bytes once they are trained are put on a coarser grid and trained once more."""
CLOSER = 0.985
"""Of the bytes allowed: what the first grid may take, as integers change once they are trained."""

Rounding = Literal["nearest", "adaround", "trained", "both"]


@dataclass(frozen=True)
class Effort:
    """How long and in which way a network is fitted."""

    steps: int = 4000
    rate: float = 1e-2
    seed: int = 0
    w0: int = 30
    one_in: int | None = None
    """Points of a step: one in so many; None: about `POINTS` of them."""
    rounding: Rounding = "trained"
    """`nearest` number of steps; up or down as `adaround` finds; `trained` on the grid, straight through the rounding;
    or `both`, one after the other."""
    l1: float = 0.0
    """Of the mean magnitude of all parameters in the loss of the fit."""

    def part_of(self, signal: Signal) -> int:
        """One in how many points of `signal` is looked at in a step."""
        return self.one_in or max(signal.points // POINTS, 1)


@dataclass(frozen=True)
class Encoded:
    """A signal as a file, and what comes back from it."""

    signal: Signal
    content: bytes
    """Of the file."""
    network: Network
    """As it is read from the file."""
    seconds: float
    """What encoding took."""
    float_psnr: float
    """Of the network before its weights were rounded, in dB."""

    @property
    def bpp(self) -> float:
        """Bits of the whole file for each point."""
        return bits_per_point(len(self.content), self.signal)

    @cached_property
    def values(self) -> Values:
        """What the decoded file holds, in numbers that the signal's kind of file has."""
        return stored_values(self.signal, self.network.layout, drawn(self.network))

    @cached_property
    def psnr(self) -> float:
        """Of the decoded file, in dB."""
        return psnr(self.values, self.signal.values)

    @cached_property
    def ssim(self) -> float:
        """Of the decoded file; of a picture or an array of at least 7 points along each axis."""
        return ssim(self.values, self.signal.values)

    @property
    def told(self) -> str:
        """The file for people, in a line."""
        layout, extra = self.network.layout, len(header(self.network.layout)) + 6
        similarity = f", SSIM {self.ssim:.3f}" if min(self.signal.shape) >= 7 and len(self.signal.shape) > 1 else ""
        return (
            f"{len(self.content):,} bytes, {self.bpp:.3f} bits a point, PSNR {self.psnr:.2f} dB{similarity}: "
            f"{layout.depth} layers of {layout.width} sines, {layout.parameters:,} weights, "
            f"{extra} bytes of header; {self.seconds:.0f} s"
        )


def encode_shape(
    signal: Signal, shape: Shape, most: int, effort: Effort, *, start: bytes | None = None, tell: Tell | None = None
) -> Encoded:
    """Fit a network of `shape` to the signal and store it in at most `most` bytes.

    `start`: the content of a file of a network to begin with, the difference from which is stored; its shape is taken.
    Errors: `ExportError`, `NotFiniteError`.
    """
    began = time.perf_counter()
    torch.manual_seed(effort.seed)
    network, first = _beginning(signal, shape, effort, start)
    one_in = effort.part_of(signal)
    if shape.bits == HALF_BITS and start is None:
        fitted = fit(network, signal, effort.steps, effort.rate, l1=effort.l1, one_in=one_in, tell=tell)
        content = half_file(layout_of(network, signal, coded=False), tensors_of(network))
        if len(content) > most:
            raise ExportError(f"expected a file of at most {most} bytes, got {len(content)}. Take a narrower network")
        return read_back(signal, content, start, began, fitted.psnr)
    steps = round(FITTED * effort.steps)
    fitted = fit(network, signal, steps, effort.rate, l1=effort.l1, one_in=one_in, tell=tell)
    content = on_grid(network, layout_of(network, signal, start=start), signal, most, effort, start=first)
    return read_back(signal, content, start, began, fitted.psnr)


def on_grid(
    network: Siren,
    layout: Layout,
    signal: Signal,
    most: int,
    effort: Effort,
    *,
    start: Sequence[Tensor] = (),
    there: Sequence[Tensor | None] = (),
    methods: Sequence[Method] = (),
) -> bytes:
    """The content of a file of at most `most` bytes: weights are put on the finest grid that fits, as `effort` says.

    Integers that outgrew the file while they were trained are put on a coarser grid, and trained there. `start`: the
    tensors that a difference is from; `there`: where they may differ; `methods`: of the training.
    """
    relative, steps, one_in = relative_steps(network, signal), round(ON_GRID * effort.steps), effort.part_of(signal)
    allowed = most if effort.rounding == "nearest" else int(CLOSER * most)
    grid = grid_within(network, layout, relative, allowed, start, there)
    if effort.rounding in ("adaround", "both"):
        tune_rounding(network, signal, grid, steps, one_in=one_in, seed=effort.seed)
    if effort.rounding in ("trained", "both"):
        rate = GRID_RATE * effort.rate
        fit(network, signal, steps, rate, through=grid.through, methods=methods, one_in=one_in)
        for _ in range(AGAIN):
            if len(file_of(network, layout, grid)) <= most:
                break
            grid = grid_within(network, layout, relative, allowed, start, there)
            fit(network, signal, steps // 4, rate / 2, through=grid.through, methods=methods, one_in=one_in)
    if len(content := file_of(network, layout, grid)) <= most:
        return content
    return file_of(network, layout, grid_within(network, layout, relative, most, start, there))


def _beginning(signal: Signal, shape: Shape, effort: Effort, start: bytes | None) -> tuple[Siren, list[Tensor]]:
    """The network before its fit, and the tensors that a difference is from."""
    axes = len(signal.shape)
    if start is None:
        features = FourierFeatures(axes, shape.frequencies) if shape.frequencies else None
        return Siren(axes, signal.channels, shape.width, shape.depth, float(effort.w0), features), []
    other = network_of(start)
    network = siren_of(other.layout)
    if (network.inputs, network.outputs) != (axes, signal.channels):
        raise ConfigError(
            f"expected a start of {axes} axes and {signal.channels} channels, got {network.inputs} and "
            f"{network.outputs}. Give one that was made for such signals"
        )
    set_tensors(network, other.tensors)
    return network, [tensor.clone() for tensor in tensors_of(network)]


def read_back(signal: Signal, content: bytes, start: bytes | None, began: float, float_psnr: float) -> Encoded:
    """What `content` comes back as; `began`: by `time.perf_counter`."""
    return Encoded(signal, content, network_of(content, start), time.perf_counter() - began, float_psnr)
