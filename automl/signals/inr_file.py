"""Files `.inr`, written: a header of a few bytes and the weights, as `automl.signals.inr_reader` reads them."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from automl.errors import ExportError
from automl.signals.arithmetic import MOST_DIGITS, coded
from automl.signals.inr_reader import (
    CODED,
    DIFFERENCE,
    FEATURES,
    KINDS,
    MAGIC,
    Array,
    Layout,
    checksum,
    name_of,
    step_of,
)
from automl.signals.signal import Signal
from automl.signals.siren import FourierFeatures, Siren

STEPS = tuple(step_of(byte) for byte in range(256))
"""The steps that a file can name, ascending."""


def layout_of(network: Siren, signal: Signal, *, coded: bool = True, start: bytes | None = None) -> Layout:
    """What a file says of a network and of the signal that it draws. `start`: the content of the file of its start."""
    facts = {"image": (), "audio": ("rate",), "array": ("type", "low", "high")}[signal.kind]
    if network.w0 != int(network.w0) or network.inputs != len(signal.shape) or network.outputs != signal.channels:
        raise ExportError(
            f"expected a network of {len(signal.shape)} axes and {signal.channels} channels whose w0 is a whole "
            f"number, got {network.inputs} axes, {network.outputs} channels and w0 {network.w0}"
        )
    features = network.features
    return Layout(
        signal.kind,
        signal.shape,
        signal.channels,
        network.width,
        network.depth,
        int(network.w0),
        0 if features is None else features.frequencies,
        140 if features is None else round(100 * features.base),
        coded,
        b"" if start is None else name_of(start),
        tuple(float(signal.facts[name]) for name in facts),
    )


def siren_of(layout: Layout) -> Siren:
    """A network of the architecture that a file describes, with weights of its own."""
    axes = len(layout.shape)
    features = FourierFeatures(axes, layout.frequencies, layout.base / 100) if layout.frequencies else None
    return Siren(axes, layout.channels, layout.width, layout.depth, float(layout.w0), features)


def tensors_of(network: Siren) -> list[Tensor]:
    """Weight and bias of each layer in turn, as they stand in a file; detached."""
    return [p.detach() for layer in network.layers for p in layer.parameters()]


@torch.no_grad()
def set_tensors(network: Siren, tensors: Sequence[Tensor | Array]) -> None:
    """Give `network` these weights, in the order of `tensors_of`."""
    for own, other in zip(tensors_of(network), tensors, strict=True):
        own.copy_(other if isinstance(other, Tensor) else torch.from_numpy(np.array(other)))


def step_bytes(steps: Sequence[float]) -> bytes:
    """The bytes of the steps that a file can name and that are nearest to `steps` by their ratio."""
    logs = np.log(STEPS)
    return bytes(int(np.abs(logs - math.log(step)).argmin()) for step in steps)


def half_file(layout: Layout, tensors: Sequence[Tensor]) -> bytes:
    """The content of a file with weights in float16, as COIN stores them."""
    if any(bool(tensor.half().isinf().any()) for tensor in tensors):
        raise ExportError("expected weights that float16 holds, got larger ones. Encode in integers")
    halves = [tensor.numpy().astype("<f2") for tensor in tensors]
    return _file(layout, b"".join(half.tobytes() for half in halves))


def integer_file(layout: Layout, integers: Sequence[Tensor], steps: bytes) -> bytes:
    """The content of a file whose weights are `integers`, each times the step of its tensor."""
    lists = [tensor.flatten().to(torch.int64).tolist() for tensor in integers]
    if any(abs(value).bit_length() > MOST_DIGITS for values in lists for value in values):
        raise ExportError("expected weights of at most 2^24 steps, got larger ones. Encode in coarser steps")
    return _file(layout, steps + coded(lists))


def _file(layout: Layout, body: bytes) -> bytes:
    rest = header(layout) + body
    return MAGIC + checksum(rest) + rest


def header(layout: Layout) -> bytes:
    """What stands between the checksum and the weights."""
    features = (layout.frequencies, layout.base) if layout.frequencies else ()
    flags = KINDS.index(layout.kind) | FEATURES * bool(features) | DIFFERENCE * bool(layout.start)
    flags |= CODED * layout.coded
    numbers = [flags, len(layout.shape), *layout.shape, layout.channels, layout.width, layout.depth, layout.w0]
    content = b"".join(number_bytes(value) for value in (*numbers, *features))
    if layout.kind == "audio":
        content += number_bytes(int(layout.facts[0]))
    elif layout.kind == "array":
        content += number_bytes(int(layout.facts[0])) + struct.pack("<2f", *layout.facts[1:])
    return content + layout.start


def number_bytes(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the highest bit of all bytes but the last is set."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
