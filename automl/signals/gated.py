"""L0onie: a wide SIREN becomes sparse while it is fitted, and meets a rate without a search of architectures.

Ramirez & Gallego-Posada 2022, "L0onie: Compressing COINs with L0-constraints", arXiv 2207.04144: a gate for each
weight, constrained to a rate. Here each hidden layer has a constraint of its own, weights are integers, and the rate
counts what marks the zeros.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from automl.signals.arithmetic import coded
from automl.signals.encoding import FITTED, Effort, Encoded, on_grid, read_back
from automl.signals.fitting import Tell, fit
from automl.signals.inr_file import layout_of
from automl.signals.inr_reader import opened, step_of
from automl.signals.shapes import Shape, file_bytes, frequency, widest
from automl.signals.signal import Signal
from automl.signals.siren import Siren
from automl.training.methods.constrained_l0 import DualPrice
from automl.training.methods.keep_zeros import KeepZeros
from automl.training.methods.l0 import L0Gates
from automl.training.methods.target import Target

WIDER = 2.0
"""The rate of the whole network as a multiple of the one that is asked for, as in the authors' code."""
ENDS = 0.6
"""The part of the fit in which gates are learnt."""
GATE_RATE, DUAL_RATE, DROPOUT = 0.05, 1e-3, 0.3


@dataclass(frozen=True)
class Sparse:
    """A file of a network with zeros, and what marking them takes."""

    encoded: Encoded
    density: float
    """The part of its hidden layers' weights that is not zero."""
    mask_bytes: int
    """What the file would be shorter by if where the zeros are were known."""


def encode_gated(
    signal: Signal, most: int, effort: Effort, *, bits: float = 6.0, depth: int = 3, tell: Tell | None = None
) -> Sparse:
    """Fit a network twice as large as fits in `most` bytes, with a gate for each weight of its hidden layers.

    A constraint holds the gates of each of these layers to the density at which the file is full. Then weights are
    put on a grid and trained there, zeros staying zeros. Errors: `ConfigError`, `ExportError`, `NotFiniteError`.
    """
    began = time.perf_counter()
    shape = widest(signal, int(WIDER * most), bits, depth) or Shape(2, depth, bits)
    torch.manual_seed(effort.seed)
    axes = len(signal.shape)
    w0 = effort.w0 or frequency(shape.parameters(axes, signal.channels))
    network = Siren(axes, signal.channels, shape.width, depth, float(w0))
    sizes = {f"layers.{i}.weight": shape.width**2 for i in range(1, depth)}
    part = density_within(file_bytes(signal, shape), sum(sizes.values()), most, bits)
    counts = {name: max(round(part * size), 1) for name, size in sizes.items()}
    gates = L0Gates(Target(counts), DualPrice(counts, DUAL_RATE), ends=ENDS, gate_rate=GATE_RATE, dropout=DROPOUT)
    fitted = fit(
        network,
        signal,
        round(FITTED * effort.steps),
        effort.rate,
        methods=[gates],
        keep_from=ENDS,
        one_in=effort.part_of(signal),
        tell=tell,
    )
    layout = layout_of(network, signal)
    content = on_grid(network, layout, signal, most, effort, methods=[KeepZeros(counts)])
    encoded = read_back(signal, content, None, began, fitted.psnr)
    gated = encoded.network.tensors[2 : 2 * depth : 2]
    return Sparse(encoded, sum(int((t != 0).sum()) for t in gated) / sum(sizes.values()), mask_bytes(encoded))


def density_within(whole: int, gated: int, most: int, bits: float) -> float:
    """The part of `gated` weights that may stay if the file is to shrink from `whole` bytes to `most`.

    One that stays takes `bits`, and each the binary entropy of the part, which is what marking zeros takes.
    """
    low, high = 0.0, 1.0
    for _ in range(40):
        part = (low + high) / 2
        marks = -sum(p * math.log2(p) for p in (part, 1 - part) if p > 0)
        taken = whole - gated * (bits - part * bits - marks) / 8
        low, high = (low, part) if taken > most else (part, high)
    return low


def mask_bytes(encoded: Encoded) -> int:
    """How much longer the file is for the zeros in it."""
    tensors = encoded.network.tensors
    steps = opened(encoded.content)[1][: len(tensors)]
    whole = [np.rint(t / step_of(b)).astype(int).ravel().tolist() for t, b in zip(tensors, steps, strict=True)]
    return len(coded(whole)) - len(coded([_without_zeros(values) for values in whole]))


def _without_zeros(values: Iterable[int]) -> list[int]:
    return [value for value in values if value]
