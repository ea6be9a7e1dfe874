"""Where labels go in calls that move, split, join or reduce dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from search_spaces.graph import edits
from search_spaces.graph.call import RULES, Call, Opaque, rule
from search_spaces.graph.dims import merged_dims, split_dims
from search_spaces.graph.labels import Labelled, fixed, movable


def reshaped(call: Call, x: Labelled, shape: Sequence[int]) -> Labelled:
    """The labels of `x` seen in another shape, block by block of dimensions with equal products."""
    old, i, j = [len(labels) for labels in x], 0, 0
    out: list[np.ndarray] = []
    while i < len(old) or j < len(shape):
        start_i, start_j = i, j
        a = old[i] if i < len(old) else 1
        b = shape[j] if j < len(shape) else 1
        i, j = min(i + 1, len(old)), min(j + 1, len(shape))
        while a != b:
            if a < b:
                a, i = a * old[i], i + 1
            else:
                b, j = b * shape[j], j + 1
        out += split_dims(call, merged_dims(call, x[start_i:i]), shape[start_j:j], last=i == len(old))
    return tuple(out)


@rule("view", "reshape")
def _view(call: Call, x: Labelled, *sizes: Any, **named: Any) -> Labelled:
    out = reshaped(call, x, call.shape)
    if not isinstance(sizes[0] if sizes else 0, torch.dtype):
        call.shaped(out, first=1, name="shape")
    return out


@rule("view_as", "reshape_as")
def _view_as(call: Call, x: Labelled, other: Labelled) -> Labelled:
    out = reshaped(call, x, call.shape)
    for a, b in zip(out, other, strict=True):
        call.tie(a, b, "has the shape of another in")
    return out


@rule("flatten", "squeeze", "unsqueeze")
def _reshaping(call: Call, x: Labelled, *args: Any, **kwargs: Any) -> Labelled:
    return reshaped(call, x, call.shape)


@rule("unflatten")
def _unflatten(call: Call, x: Labelled, dim: int, sizes: Sequence[int]) -> Labelled:
    out = reshaped(call, x, call.shape)
    dim %= len(x)
    call.shaped(out[dim : dim + len(sizes)], first=2, name="sizes")
    return out


@rule("permute")
def _permute(call: Call, x: Labelled, *dims: Any) -> Labelled:
    order = dims[0] if isinstance(dims[0], (tuple, list)) else dims
    return tuple(x[d] for d in order)


@rule("transpose", "swapaxes", "swapdims")
def _transpose(call: Call, x: Labelled, dim0: int, dim1: int) -> Labelled:
    order = list(range(len(x)))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return tuple(x[d] for d in order)


@rule("t", "T", "mT")
def _matrix_transpose(call: Call, x: Labelled) -> Labelled:
    return (*x[:-2], *x[-2:][::-1])


@rule("channel_shuffle", "native_channel_shuffle")
def _channel_shuffle(call: Call, x: Labelled, groups: int) -> Labelled:
    sizes = [len(labels) for labels in x]
    split = reshaped(call, x, [sizes[0], groups, sizes[1] // groups, *sizes[2:]])
    return reshaped(call, (split[0], split[2], split[1], *split[3:]), sizes)


@rule("expand", "expand_as")
def _expand(call: Call, x: Labelled, *sizes: Any) -> Labelled:
    new = len(call.shape) - len(x)
    out = []
    for dim, size in enumerate(call.shape):
        source = x[dim - new] if dim >= new else fixed(1)
        copied = len(source) == 1 and size > 1
        # Copies of one value can go with whatever they are combined with.
        out.append((call.labels.copies(size) if dim else fixed(size)) if copied else source)
    if call.name == "expand":
        call.shaped(tuple(out), first=1)
    return tuple(out)


@rule("repeat")
def _repeat(call: Call, x: Labelled, *times: Any) -> Labelled:
    counts = list(times[0] if isinstance(times[0], (tuple, list)) else times)
    padded = (*(fixed(1) for _ in range(len(counts) - len(x))), *x)
    return tuple(np.tile(labels, n) for labels, n in zip(padded, counts, strict=True))


@rule("cat", "concat", "concatenate")
def _cat(call: Call, tensors: Sequence[Labelled], dim: int = 0, axis: int | None = None) -> Labelled:
    parts = [x for x in tensors if len(x) == len(call.shape)]
    dim = (dim if axis is None else axis) % len(call.shape)
    out = list(parts[0])
    for part in parts[1:]:
        for d in range(len(out)):
            if d != dim:
                call.tie(out[d], part[d], "stands beside others in")
    out[dim] = np.concatenate([part[dim] for part in parts])
    return tuple(out)


@rule("stack")
def _stack(call: Call, tensors: Sequence[Labelled], dim: int = 0) -> Labelled:
    for part in tensors[1:]:
        for a, b in zip(tensors[0], part, strict=True):
            call.tie(a, b, "stands beside others in")
    out = list(tensors[0])
    out.insert(dim % len(call.shape), fixed(len(tensors)))
    return tuple(out)


@rule("split", "chunk", "tensor_split", "split_with_sizes")
def _split_into(call: Call, x: Labelled, how: Any = None, dim: int = 0, **how_by_name: Any) -> tuple[Labelled, ...]:
    dim %= len(x)
    parts, start = [], 0
    for shape in call.shapes:
        end = start + shape[dim]
        parts.append((*x[:dim], x[dim][start:end], *x[dim + 1 :]))
        start = end
    if movable(x[dim]):
        call.edit(partial(edits.edit_split, parts=parts, dim=dim))
    return tuple(parts)


@rule("unbind")
def _unbind(call: Call, x: Labelled, dim: int = 0) -> tuple[Labelled, ...]:
    dim %= len(x)
    call.fix(x[dim], "is unbound")
    return tuple((*x[:dim], *x[dim + 1 :]) for _ in call.shapes)


@rule("getitem")
def _getitem(call: Call, x: Any, index: Any) -> Any:
    if not isinstance(x[0], np.ndarray):  # one of several outputs
        return x[index]
    parts = edits.one_part_a_dimension(index, len(x))
    listed = [i for i, part in enumerate(parts) if isinstance(part, (tuple, list)) and part]
    if listed:
        return _take(call, x, parts, listed)
    out: list[np.ndarray] = []
    dim = 0
    for part in parts:
        if part is None:
            out.append(fixed(1))
            continue
        if isinstance(part, slice):
            out.append(x[dim][part])
        elif isinstance(part, int):
            call.fix(x[dim], "is read one by one")
        else:
            raise Opaque
        dim += 1
    if any(movable(labels) for labels in x):
        call.edit(partial(edits.edit_slice, labels=x, index=parts))
    return tuple(out)


def _take(call: Call, x: Labelled, parts: tuple[Any, ...], listed: list[int]) -> Labelled:
    """`x[:, list]`: an index that is a constant of the network, along one dimension; or `table[tensor]`."""
    dim = listed[0]
    if len(listed) > 1 or any(part != slice(None) for part in parts[:dim] + parts[dim + 1 :]):
        raise Opaque
    index = call.constant(parts[dim])
    if index is not None and index.ndim == 1 and index.dtype != bool:
        return index_along(call, x, dim, index)
    looked_up = parts[dim]
    if not all(isinstance(labels, np.ndarray) for labels in looked_up) or (index is not None and index.dtype == bool):
        raise Opaque
    for labels in (x[dim], *looked_up):
        call.fix(labels, "is looked up")
    return (*x[:dim], *(fixed(len(labels)) for labels in looked_up), *x[dim + 1 :])


def index_along(call: Call, x: Labelled, dim: int, index: np.ndarray) -> Labelled:
    """The labels of `x` with dimension `dim` picked by the constant `index`: [n]."""
    if movable(x[dim]):
        call.edit(partial(edits.edit_index, labels=x[dim], index=index, dim=dim))
    return (*x[:dim], x[dim][index], *x[dim + 1 :])


@rule("index_select")
def _index_select(call: Call, x: Labelled, dim: int, index: Any) -> Labelled:
    constant = call.constant(index)
    if constant is None:
        raise Opaque
    return index_along(call, x, dim % len(x), constant)


@rule("narrow")
def _narrow(call: Call, x: Labelled, dim: int, start: int, length: int) -> Labelled:
    dim %= len(x)
    call.edit(partial(edits.edit_narrow, labels=x[dim], dim=dim, start=start, length=length))
    return (*x[:dim], x[dim][start : start + length], *x[dim + 1 :])


@rule("flip")
def _flip(call: Call, x: Labelled, *dims: Any) -> Labelled:
    flipped = {d % len(x) for d in (dims[0] if isinstance(dims[0], (tuple, list)) else dims)}
    return tuple(labels[::-1] if d in flipped else labels for d, labels in enumerate(x))


@rule("pad", "constant_pad_nd")
def _pad(call: Call, x: Labelled, pad: Sequence[int], mode: str = "constant", value: Any = None) -> Labelled:
    before, after = [0] * len(x), [0] * len(x)
    for pair in range(len(pad) // 2):
        before[len(x) - 1 - pair], after[len(x) - 1 - pair] = pad[2 * pair], pad[2 * pair + 1]
    out = []
    for labels, left, right in zip(x, before, after, strict=True):
        inner = labels[max(-left, 0) : len(labels) - max(-right, 0)]
        prunable = movable(labels)
        if prunable and (left < 0 or right < 0 or (mode != "constant" and left + right)):
            call.fix(labels, "is cropped or padded with copies")
            prunable = False
        make = call.labels.fresh if prunable else fixed
        # Zero channels can go with what they are added to; a single one is fixed, as any dimension of size 1 is.
        out.append(np.concatenate([make(max(left, 0)), inner, make(max(right, 0))]))
    call.edit(partial(edits.edit_pad, out=tuple(out), before=before, after=after))
    return tuple(out)


def reduced(call: Call, x: Labelled, dims: Any, keepdim: bool, why: str) -> Labelled:
    """Dimensions reduced away; channels among them must stay, since the result depends on how many there are."""
    every = range(len(x)) if dims is None else ([dims] if isinstance(dims, int) else dims)
    gone = {d % len(x) for d in every}
    for d in gone:
        call.fix(x[d], why)
    kept = [(fixed(1) if d in gone else labels) for d, labels in enumerate(x) if keepdim or d not in gone]
    return tuple(kept)


@rule("mean", "sum", "amax", "amin", "max", "min", "std", "var", "norm", "logsumexp", "prod", "argmax", "argmin")
def _reduce(call: Call, x: Labelled, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Any:
    if isinstance(dim, tuple) and dim and isinstance(dim[0], np.ndarray):
        return RULES["maximum"](call, x, dim)  # torch.max(a, b) is elementwise
    out = reduced(call, x, kwargs.get("axis", dim), keepdim, "is reduced over its channels")
    return tuple(out for _ in call.shapes) if call.returns_several else out


@rule("softmax", "log_softmax", "softmin", "cumsum")
def _softmax(call: Call, x: Labelled, dim: int | None = None, *args: Any, **kwargs: Any) -> Labelled:
    for labels in x if dim is None else (x[dim],):
        call.fix(labels, "is normalised over its channels")
    return x


@rule("normalize")
def _normalize(call: Call, x: Labelled, p: float = 2.0, dim: int = 1, **kwargs: Any) -> Labelled:
    call.fix(x[dim], "is normalised over its channels")
    return x


@rule(
    *(
        "max_pool1d",
        "max_pool2d",
        "max_pool3d",
        "avg_pool1d",
        "avg_pool2d",
        "avg_pool3d",
        "interpolate",
        "upsample",
    ),
    *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "lp_pool2d"),
    *("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"),
)
def _spatial(call: Call, x: Labelled, *args: Any, **kwargs: Any) -> Any:
    def one(shape: tuple[int, ...]) -> Labelled:
        return (*x[:2], *(fixed(size) for size in shape[2:]))

    for labels in x[2:]:
        call.fix(labels, "is pooled or resized as if it were space")
    return tuple(one(shape) for shape in call.shapes) if call.returns_several else one(call.shape)


@rule("zeros", "ones", "empty", "rand", "randn", "new_zeros", "new_ones", "new_empty")
def _created(call: Call, *args: Any, **kwargs: Any) -> Labelled:
    first = 1 if call.name.startswith("new_") else 0
    if len(args) <= first:
        raise Opaque
    # Zeros that fill up channels, as in a widening shortcut, can go with what they are added to.
    out = tuple(call.labels.fresh(size) if d else fixed(size) for d, size in enumerate(call.shape))
    call.shaped(out, first)
    return out
