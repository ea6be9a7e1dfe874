"""Signals stored as latents of a shared network: learnt from many signals, encoded by three steps, decoded.

COIN++ (Dupont et al. 2022, arXiv 2201.12904); see `modulations.py` for the network and `latent_code.py` for the bits.
Large signals are cut into patches, each with a latent of its own (their section 3.4).
"""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from automl.errors import DataError, ExportError
from automl.signals.first_step import FirstStep
from automl.signals.inr_file import number_bytes
from automl.signals.inr_reader import Layout
from automl.signals.latent_code import LatentCode
from automl.signals.latent_reader import (
    KINDS,
    MAGIC,
    MOST_LATENTS,
    Latents,
    checksum,
    drawn,
    latents_of,
    name_of,
    patches_along,
)
from automl.signals.meta import Learnt, MetaOptions, adapted_to, learn
from automl.signals.modulations import LATENT, MAP, Modulated
from automl.signals.signal import Signal, Values, bits_per_point, coordinates, psnr
from automl.signals.signal_files import stored_values
from automl.signals.siren import Siren
from automl.signals.start_file import Shape, Start

AT_ONCE = 16
"""Patches that are fitted at once: at four times as many, of 32 x 32 pixels, a step took a quarter longer."""
FEW = 4
"""Patches of which the first step takes less time one by one than as a matrix for all."""
SAMPLE = 2048
"""Patches of the training set, at most, whose latents make the code."""


@dataclass(frozen=True)
class EncodedLatents:
    """A signal as a file of latents, and what comes back from it."""

    signal: Signal
    content: bytes
    """Of the file."""
    latents: Latents
    """As they are read from the file."""
    latent_bits: float
    """Bits of the latents alone, before they are rounded up to bytes."""
    shared_bytes: int
    """Of the file of the shared network."""
    seconds: float
    """What encoding took."""

    @property
    def bpp(self) -> float:
        """Bits of the whole file for each point; the shared network is not in it."""
        return bits_per_point(len(self.content), self.signal)

    @cached_property
    def values(self) -> Values:
        """What the decoded file holds, in numbers that the signal's kind of file has."""
        return stored_values(self.signal, layout_of_latents(self.latents), drawn(self.latents))

    @cached_property
    def psnr(self) -> float:
        """Of the decoded file, in dB."""
        return psnr(self.values, self.signal.values)

    @property
    def told(self) -> str:
        """The file for people, in a line."""
        both = bits_per_point(len(self.content) + self.shared_bytes, self.signal)
        return (
            f"{len(self.content):,} bytes, {self.bpp:.3f} bits a point, or {both:.3f} with the {self.shared_bytes:,} "
            f"bytes of the shared network, PSNR {self.psnr:.2f} dB: {len(self.latents.biases[0])} latents of "
            f"{self.latent_bits / 8:,.0f} bytes in all; {self.seconds:.2f} s"
        )


def learn_latents(
    patches: Tensor,
    patch: tuple[int, ...],
    shape: Shape,
    latent: int,
    bits: int,
    options: MetaOptions,
    *,
    seen: Callable[[int, float, Learnt], None] = lambda step, loss, learnt: None,
) -> Start:
    """Learn a shared network for patches, [n, points, channels], and the code of their latents of `latent` numbers.

    `patch`: the lengths of a patch's axes; `bits` of a number, before the entropy code. Errors: `NotFiniteError`.
    """
    torch.manual_seed(options.seed)
    form = Modulated(shape.network(), latent)
    first = form.first(torch.Generator().manual_seed(options.seed))
    learnt = learn(form, first, coordinates(patch), patches, options, seen=seen)
    start = Start("latent", shape, learnt.shared, learnt.rates, patch=patch)
    code = LatentCode.of(fitted(start, patches[:SAMPLE]), bits)
    return with_code(start, code)


def with_code(start: Start, code: LatentCode) -> Start:
    """The same network with another code of its latents."""
    return replace(start, code=code)


def fitted(start: Start, patches: Tensor, first: FirstStep | None = None) -> np.ndarray:
    """The latents of patches, [n, points, channels], as the inner loop finds them: float32, [n, latent].

    `first`: the first step from `start`, if it is worked out already; of more than `FEW` patches it is worked out here.
    """
    if first is None and len(patches) > FEW:
        first = FirstStep.of(start)
    form, points = Modulated(start.shape.network(), start.shared[MAP].shape[1]), coordinates(start.patch)
    rates, begun = start.rates[LATENT], torch.zeros(len(patches), form.latent)
    if first is not None:
        rates, begun = rates[1:], first(patches)
    rest, found = Learnt(start.shared, {LATENT: rates}), []
    for values, latents in zip(patches.split(AT_ONCE), begun.split(AT_ONCE), strict=True):
        found.append(adapted_to(form, rest, points, values, begun={LATENT: latents})[LATENT].detach())
    return torch.cat(found).numpy()


def patches_of(signal: Signal, patch: tuple[int, ...]) -> Tensor:
    """The signal in patches, the last axis fastest: [n, points, channels]. Beyond its edge stand the values at it."""
    if len(patch) != len(signal.shape):
        raise DataError(
            f"expected a signal of {len(patch)} axes, as those that the start was learnt from, got one of "
            f"{len(signal.shape)}. Learn a start from signals like it"
        )
    counts = patches_along(signal.shape, patch)
    beyond = [(0, n * side - length) for n, side, length in zip(counts, patch, signal.shape, strict=True)]
    values = np.pad(signal.values, [*beyond, (0, 0)], mode="edge")
    axes = len(patch)
    cut = values.reshape(*[size for pair in zip(counts, patch, strict=True) for size in pair], -1)
    cut = cut.transpose(*range(0, 2 * axes, 2), *range(1, 2 * axes, 2), 2 * axes)
    return torch.from_numpy(np.ascontiguousarray(cut.reshape(math.prod(counts), math.prod(patch), -1)))


def encode_latents(
    signal: Signal, start: Start, start_content: bytes, first: FirstStep | None = None
) -> EncodedLatents:
    """The signal as a file. `start_content`: that of the file of `start`; `first`: as in `fitted`, for many signals.

    Errors: `DataError`, `ExportError`.
    """
    began = time.perf_counter()
    if start.form != "latent" or start.code is None:
        raise DataError("expected a start of form latent. Learn one: automl learn-start FOLDER --form latent")
    if signal.channels != start.shape.outputs:
        raise DataError(
            f"expected a signal of {start.shape.outputs} channels, as those that the start was learnt from, got "
            f"{signal.channels}. Learn a start from signals like it"
        )
    patches = patches_of(signal, start.patch)
    if len(patches) * start.shared[MAP].shape[1] > MOST_LATENTS:
        raise ExportError(f"expected at most {MOST_LATENTS} numbers in all latents, got more. Cut the signal")
    symbols = start.code.symbols(fitted(start, patches, first)).reshape(-1)
    header = bytes([KINDS.index(signal.kind), len(signal.shape)]) + b"".join(map(number_bytes, signal.shape))
    if signal.kind == "audio":
        header += number_bytes(int(signal.facts["rate"]))
    elif signal.kind == "array":
        header += number_bytes(int(signal.facts["type"])) + struct.pack(
            "<2f", signal.facts["low"], signal.facts["high"]
        )
    rest = header + name_of(start_content) + start.code.encode(symbols)
    whole, bits = MAGIC + checksum(rest) + rest, start.code.bits_of(symbols) * len(symbols)
    back, seconds = decode_latents(whole, start_content), time.perf_counter() - began
    return EncodedLatents(signal, whole, back, bits, len(start_content), seconds)


def decode_latents(content: bytes, start_content: bytes) -> Latents:
    """The signal in a file of latents. Errors: `ExportError`."""
    try:
        return latents_of(content, start_content)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ExportError(
            f"cannot read the latents: {error}. Encode again, or give the start it was made with"
        ) from error


def layout_of_latents(latents: Latents) -> Layout:
    """What the signal and the network of each patch are, as other files say it."""
    sizes = len(latents.weights[-1]), len(latents.weights[0]), len(latents.weights) - 1
    return Layout(latents.kind, latents.shape, *sizes, round(latents.w0), facts=latents.facts)


def network_of_patch(latents: Latents, number: int) -> Siren:
    """The SIREN that draws a patch: the shared one with the biases of its latent."""
    weights = latents.weights
    network = Siren(weights[0].shape[1], len(weights[-1]), len(weights[0]), len(weights) - 1, latents.w0)
    state = {f"layers.{n}.weight": torch.from_numpy(weight) for n, weight in enumerate(weights)}
    state |= {f"layers.{n}.bias": torch.from_numpy(biases[number]) for n, biases in enumerate(latents.biases)}
    network.load_state_dict(state)
    return network
