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
from automl.signals.shapes import HALF_BITS, Shape, frequency
from automl.signals.signal import Signal, Values, bits_per_point, psnr, ssim
from automl.signals.signal_files import stored_values
from automl.signals.siren import FourierFeatures, Siren
from automl.signals.tuned_rounding import tune_rounding
from automl.training.methods.base import Method

POINTS = 4096
"""About so many points are looked at in a step."""
FITTED, ON_GRID = 0.5, 0.5
"""The parts of the steps before weights are put on a grid, and after."""
ROUNDS = ((0.6, 1.0), (0.4, 0.5), (0.2, 0.25), (0.2, 0.25))
"""Of the training on a grid: the part of its steps, and of the rate of the fit. (At a fifth of that rate nothing was
gained over the nearest numbers.) Weights change meanwhile, and with them what they take, so that each round has a grid
of its own; those after the second are for files that are too large or not full."""
FULL, CLOSER = 0.98, 0.99
"""The part of its bytes from which on a file is full, and that which a grid is aimed at."""

Rounding = Literal["nearest", "adaround", "trained", "both"]


@dataclass(frozen=True)
class Effort:
    """How long and in which way a network is fitted."""

    steps: int = 5000
    rate: float = 5e-3
    seed: int = 0
    w0: int | None = None
    """Of the sines; None: by the number of weights (`frequency`). With the usual 30 networks of some hundred weights
    stayed a decibel further from a photograph."""
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

    Training on a grid changes what the integers take, so that it goes on on another one. `start`: the tensors that a
    difference is from; `there`: where they may differ; `methods`: of the training.
    """
    relative, steps, one_in = relative_steps(network, signal), round(ON_GRID * effort.steps), effort.part_of(signal)
    grid = grid_within(network, layout, relative, most, start, there)
    if effort.rounding in ("adaround", "both"):
        tune_rounding(network, signal, grid, steps, one_in=one_in, seed=effort.seed)
    if effort.rounding in ("trained", "both"):
        for number, (part, slower) in enumerate(ROUNDS):
            if number > 0:
                if number > 1 and FULL * most <= len(file_of(network, layout, grid)) <= most:
                    break
                grid = grid_within(network, layout, relative_steps(network, signal), int(CLOSER * most), start, there)
            fit(
                network,
                signal,
                round(part * steps),
                slower * effort.rate,
                through=grid.through,
                methods=methods,
                one_in=one_in,
                seed=effort.seed + number,
            )
    if len(content := file_of(network, layout, grid)) <= most:
        return content
    return file_of(network, layout, grid_within(network, layout, relative, most, start, there))


def _beginning(signal: Signal, shape: Shape, effort: Effort, start: bytes | None) -> tuple[Siren, list[Tensor]]:
    """The network before its fit, and the tensors that a difference is from."""
    axes = len(signal.shape)
    if start is None:
        features = FourierFeatures(axes, shape.frequencies) if shape.frequencies else None
        w0 = effort.w0 or frequency(shape.parameters(axes, signal.channels))
        return Siren(axes, signal.channels, shape.width, shape.depth, float(w0), features), []
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
