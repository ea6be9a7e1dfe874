"""Where labels go in calls that move values between channels and positions, or among either."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from search_spaces.graph.call import Call, Opaque, rule
from search_spaces.graph.labels import Labelled, fixed


@rule("roll")
def _roll(call: Call, x: Labelled, shifts: Any, dims: Any = None) -> Labelled:
    for d in range(len(x)) if dims is None or dims == () else ([dims] if isinstance(dims, int) else dims):
        call.fix(x[d], "is rolled along its channels")
    return x


@rule("glu")
def _glu(call: Call, x: Labelled, dim: int = -1) -> Labelled:
    """One half times the sigmoid of the other: halves stay halves."""
    dim %= len(x)
    gated, gate = np.split(x[dim], 2)
    call.tie(gated, gate, "is gated in")
    return (*x[:dim], gated, *x[dim + 1 :])


@rule("pixel_shuffle")
def _pixel_shuffle(call: Call, x: Labelled, factor: int) -> Labelled:
    """[.., c r^2, h, w] as [.., c, h r, w r]: the r^2 channels of one that is made go together."""
    return (*x[:-3], _one_of(call, x[-3], factor**2), *(fixed(size) for size in call.shape[-2:]))


@rule("pixel_unshuffle")
def _pixel_unshuffle(call: Call, x: Labelled, factor: int) -> Labelled:
    return (*x[:-3], np.repeat(x[-3], factor**2), *(fixed(size) for size in call.shape[-2:]))


def _one_of(call: Call, labels: np.ndarray, n: int) -> np.ndarray:
    """The labels of channels each of which is made of `n` in a row: [n_made]."""
    blocks = labels.reshape(-1, n)
    call.tie(np.broadcast_to(blocks[:, :1], blocks.shape).ravel(), blocks.ravel(), "is one of several that make one in")
    if len(blocks) > 1:
        return blocks[:, 0]
    call.fix(labels, "makes a single channel")
    return fixed(1)


@rule("unfold")
def _unfold(call: Call, x: Labelled, *args: Any, **kwargs: Any) -> Labelled:
    """The method, windows along one dimension as a last one; or the function, patches as channels [n, c k, windows]."""
    if call.node.op == "call_method":
        dim = args[0] % len(x)
        call.fix(x[dim], "is cut into windows")
        return (*x[:dim], fixed(call.shape[dim]), *x[dim + 1 :], fixed(call.shape[-1]))
    if len(x) != 4:
        raise Opaque
    return (x[0], np.repeat(x[1], call.shape[1] // len(x[1])), fixed(call.shape[2]))


@rule("fold")
def _fold(call: Call, x: Labelled, output_size: Any, kernel_size: Any, *args: Any, **kwargs: Any) -> Labelled:
    """Patches [n, c k, windows] added up as [n, c, h, w]: the k channels of one go together."""
    if len(x) != 3:
        raise Opaque
    taps = prod(kernel_size) if isinstance(kernel_size, (tuple, list)) else kernel_size**2
    return (x[0], _one_of(call, x[1], taps), *(fixed(size) for size in call.shape[2:]))


@rule("repeat_interleave")
def _repeat_interleave(call: Call, x: Labelled, repeats: Any, dim: int | None = None, **kwargs: Any) -> Labelled:
    if not isinstance(repeats, int) or dim is None:
        raise Opaque
    dim %= len(x)
    return (*x[:dim], np.repeat(x[dim], repeats), *x[dim + 1 :])


@rule("arange", "linspace", "eye", "full", "tensor")
def _made(call: Call, *args: Any, **kwargs: Any) -> Labelled:
    return tuple(fixed(size) for size in call.shape)
