"""Where labels go in calls that compute: layers with weights, products of tensors, normalisation, elementwise."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import prod
from typing import Any

import numpy as np

from search_spaces.graph import edits
from search_spaces.graph.call import Call, Opaque, rule
from search_spaces.graph.labels import Labelled, fixed, movable


@rule("conv1d", "conv2d", "conv3d", "Conv1d", "Conv2d", "Conv3d")
def _conv(
    call: Call,
    x: Labelled,
    weight: Labelled,
    bias: Labelled | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Labelled:
    """Weight [out, in / groups, *kernel]."""
    out, within = weight[0], weight[1]
    _stay_space(call, x)
    call.weighs(weight, x[1], made=0, space=x[2:], stride=stride)
    if groups == 1:
        call.tie(x[1], within, "is read by")
    else:
        _tie_groups(call, x[1], out, within, groups)
        call.edit_layer(edits.edit_groups, channels=x[1], within=within)
    if bias is not None:
        call.tie(out, bias[0], "is the bias of")
    kernel = prod(len(labels) for labels in weight[2:])
    call.multiplies(out, within, over=(x[0],), times=kernel * prod(call.shape[2:]))
    return (x[0], out, *(fixed(size) for size in call.shape[2:]))


def _stay_space(call: Call, x: Labelled) -> None:
    """What is moved along stays, also where it was channels before."""
    for labels in x[2:]:
        call.fix(labels, "is convolved as if it were space")


def _tie_groups(call: Call, x: np.ndarray, out: np.ndarray, within: np.ndarray, groups: int) -> None:
    """Tie the channels of a grouped convolution in the way that leaves more to choose from.

    Either whole groups go, inputs and outputs together (the only way for a depthwise convolution); or every group
    loses channels at the same positions.
    """
    read, made = x.reshape(groups, -1), out.reshape(groups, -1)
    stuck = any(call.labels.reason(int(label)) is not None for label in np.unique(x))
    if read.shape[1] == 1 or (groups >= min(read.shape[1], made.shape[1]) and not stuck):
        for i in range(groups):
            call.labels.tie_together(np.concatenate([read[i], made[i]]), f"is a group of {call.node.name}")
        call.fix(within, "is the inside of a group")
        return
    for side, inner in ((read, within), (made, made[0])):
        call.tie(side.ravel(), np.broadcast_to(inner, side.shape).ravel(), "is a position in the groups of")


@rule(*("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"))
@rule(*("ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"))
def _conv_transpose(
    call: Call,
    x: Labelled,
    weight: Labelled,
    bias: Labelled | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Labelled:
    """Weight [in, out / groups, *kernel]."""
    if groups > 1 and (len(weight[1]) > 1 or len(weight[0]) != groups):
        raise Opaque
    _stay_space(call, x)
    call.tie(x[1], weight[0], "is read by")
    out = weight[1] if groups == 1 else weight[0]
    if groups == 1:
        call.weighs(weight, x[1], made=1, space=x[2:], stride=stride)
    else:
        call.edit_layer(edits.edit_groups, channels=x[1], within=weight[1])
    if bias is not None:
        call.tie(out, bias[0], "is the bias of")
    kernel = prod(len(labels) for labels in weight[2:])
    call.multiplies(weight[0], weight[1], over=(x[0], *x[2:]), times=kernel)
    return (x[0], out, *(fixed(size) for size in call.shape[2:]))


@rule("linear", "Linear")
def _linear(call: Call, x: Labelled, weight: Labelled, bias: Labelled | None = None) -> Labelled:
    """Weight [out, in], applied to the last dimension."""
    call.weighs(weight, x[-1], made=0)
    call.tie(x[-1], weight[1], "is read by")
    if bias is not None:
        call.tie(weight[0], bias[0], "is the bias of")
    call.multiplies(weight[0], weight[1], over=x[:-1])
    return (*x[:-1], weight[0])


@rule("Embedding", "embedding")
def _embedding(call: Call, x: Labelled, weight: Labelled, *args: Any, **kwargs: Any) -> Labelled:
    if call.name == "embedding":
        raise Opaque
    call.fix(weight[0], "is a vocabulary")
    return (*x, weight[1])


def _per_channel(call: Call, x: Labelled, *state: Labelled | None, dim: int = 1) -> Labelled:
    """State of one number a channel goes with the channel."""
    for labels in state:
        if labels is not None and labels:
            call.tie(x[dim], labels[0], "is scaled in")
    return x


@rule("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d")
@rule("batch_norm", "instance_norm")
def _norm(
    call: Call,
    x: Labelled,
    running_mean: Labelled | None = None,
    running_var: Labelled | None = None,
    weight: Labelled | None = None,
    bias: Labelled | None = None,
    *args: Any,
    **kwargs: Any,
) -> Labelled:
    return _per_channel(call, x, running_mean, running_var, weight, bias)


@rule("PReLU", "prelu")
def _prelu(call: Call, x: Labelled, weight: Labelled) -> Labelled:
    return _per_channel(call, x, weight) if len(weight[0]) > 1 else x


@rule("GroupNorm", "group_norm")
def _group_norm(
    call: Call,
    x: Labelled,
    num_groups: int,
    weight: Labelled | None = None,
    bias: Labelled | None = None,
    eps: float = 1e-5,
) -> Labelled:
    """Whole groups go where there are more of them than channels in one; else positions within every group."""
    grouped = x[1].reshape(num_groups, -1)
    if num_groups >= grouped.shape[1]:
        for i in range(num_groups):
            call.labels.tie_together(grouped[i], f"is a group of {call.node.name}")
        call.edit_layer(edits.edit_norm_groups, channels=x[1], per_group=grouped.shape[1])
    else:
        call.tie(grouped.ravel(), np.broadcast_to(grouped[:1], grouped.shape).ravel(), "is a position in the groups of")
    return _per_channel(call, x, weight, bias)


@rule("LayerNorm", "layer_norm", "RMSNorm", "rms_norm")
def _layer_norm(
    call: Call,
    x: Labelled,
    normalized_shape: Sequence[int],
    weight: Labelled | None = None,
    bias: Labelled | None = None,
    eps: float | None = None,
) -> Labelled:
    n = len(normalized_shape)
    for state in (weight, bias):
        if state is not None:
            for a, b in zip(x[-n:], state, strict=True):
                call.tie(a, b, "is scaled in")
    call.edit_layer(edits.edit_normalized_shape, normalized=x[-n:])
    return x


@rule("matmul", "mm", "bmm", "__matmul__", "__rmatmul__")
def _matmul(call: Call, a: Labelled, b: Labelled) -> Labelled:
    if call.name == "__rmatmul__":
        a, b = b, a
    if len(a) < 2 or len(b) < 2:
        raise Opaque
    if len(b) == 2:
        call.weighs(b, a[-1], made=1)
    call.tie(a[-1], b[-2], "is summed over in")
    out = (*broadcast(call, [a[:-2], b[:-2]], call.shape[:-2]), a[-2], b[-1])
    call.multiplies(over=(*out, a[-1]))
    return out


@rule("addmm", "baddbmm")
def _addmm(call: Call, bias: Labelled, a: Labelled, b: Labelled, *scales: Any, **named: Any) -> Labelled:
    """bias + a b, as a linear layer may be written, with a weight [in, out]."""
    return broadcast(call, [_matmul(call, a, b), bias], call.shape)


@rule("einsum")
def _einsum(call: Call, equation: str, *operands: Any) -> Labelled:
    tensors = operands[0] if isinstance(operands[0], list) else operands
    left, arrow, right = equation.replace(" ", "").partition("->")
    if not arrow or "." in equation:
        raise Opaque
    seen: dict[str, np.ndarray] = {}
    for letters, tensor in zip(left.split(","), tensors, strict=True):
        for letter, labels in zip(letters, tensor, strict=True):
            if letter in seen:
                call.tie(seen[letter], labels, "is indexed alike in")
            seen.setdefault(letter, labels)
    if len(tensors) == 1:
        for letter in set(left) - set(right) - {","}:
            call.fix(seen[letter], "is summed over")
    else:
        call.multiplies(over=tuple(seen.values()))
    return tuple(seen[letter] for letter in right)


@rule("scaled_dot_product_attention")
def _attention(
    call: Call,
    query: Labelled,
    key: Labelled,
    value: Labelled,
    mask: Labelled | None = None,
    *args: Any,
    attn_mask: Labelled | None = None,
    scale: float | None = None,
    enable_gqa: bool = False,
    **kwargs: Any,
) -> Labelled:
    """softmax(scale q k^T + mask) v; the scale stays that of the whole width, also where the queries are narrowed."""
    call.tie(query[-1], key[-1], "is summed over in")
    call.tie(key[-2], value[-2], "is attended to in")
    if enable_gqa:
        key, value = (_repeated(call, x, len(query[-3])) for x in (key, value))
    mask = mask if attn_mask is None else attn_mask
    batch = broadcast(call, [query[:-2], key[:-2], value[:-2]], call.shape[:-2])
    if mask is not None:
        broadcast(call, [(*batch, query[-2], key[-2]), mask], (*call.shape[:-2], len(query[-2]), len(key[-2])))
    if scale is None:
        call.edit(partial(edits.edit_scale, scale=len(query[-1]) ** -0.5))
    call.multiplies(over=(*batch, query[-2], key[-2], query[-1]))
    call.multiplies(over=(*batch, query[-2], value[-2], value[-1]))
    return (*batch, query[-2], value[-1])


def _repeated(call: Call, x: Labelled, heads: int) -> Labelled:
    """Keys or values each of whose heads serves several of `heads` heads of queries, which go with it."""
    return (*x[:-3], np.repeat(x[-3], heads // len(x[-3])), *x[-2:])


def broadcast(call: Call, operands: Sequence[Labelled], shape: Sequence[int]) -> Labelled:
    """The labels of an elementwise result of this `shape`: equal positions of all operands are tied."""
    out: list[np.ndarray] = []
    for d, size in enumerate(reversed(shape)):
        present = [x[len(x) - 1 - d] for x in operands if d < len(x) and (len(x[len(x) - 1 - d]) == size)]
        first = next((labels for labels in present if movable(labels)), present[0])
        for labels in present:
            if labels is not first:
                call.tie(first, labels, "is combined with others in")
        out.append(first)
    return tuple(reversed(out))


_UNARY = """
relu relu6 hardtanh hardswish hardsigmoid sigmoid tanh silu mish gelu elu selu celu leaky_relu softplus softsign
logsigmoid exp exp2 expm1 log log1p log2 sqrt rsqrt abs neg clamp clip clamp_min clamp_max square reciprocal
float half bfloat16 double long int bool short to type type_as contiguous clone detach data alias cpu sign floor
ceil round erf sin cos threshold zeros_like ones_like nan_to_num hardshrink softshrink tanhshrink dropout dropout1d
dropout2d dropout3d alpha_dropout feature_dropout requires_grad_ Dropout Dropout1d Dropout2d Dropout3d AlphaDropout
FeatureAlphaDropout RReLU rrelu logical_not isnan identity Identity
""".split()

_NARY = """
add sub rsub mul div true_divide floor_divide multiply subtract divide maximum minimum pow fmod remainder where
masked_fill addcmul addcdiv lerp eq ne gt lt ge le logical_and logical_or copy fill __radd__ __rmul__ __rsub__
__rdiv__ __rtruediv__ __rpow__ __pow__ __add__ __sub__ __mul__ __truediv__ __eq__ __ne__ __gt__ __lt__ __ge__
__le__ __and__ __or__ __invert__
""".split()


@rule(*_UNARY, *_NARY)
def _elementwise(call: Call, *args: Any, **kwargs: Any) -> Labelled:
    tensors = labelled_in((args, kwargs))
    if call.name in ("zeros_like", "ones_like", "type_as", "to"):
        tensors = tensors[:1]
    return broadcast(call, tensors, call.shape)


def labelled_in(nest: Any) -> list[Labelled]:
    """Every labelled tensor in a nest of arguments."""
    if isinstance(nest, tuple) and nest and all(isinstance(item, np.ndarray) for item in nest):
        return [nest]
    if isinstance(nest, dict):
        return [tensor for item in nest.values() for tensor in labelled_in(item)]
    if isinstance(nest, (tuple, list)):
        return [tensor for item in nest for tensor in labelled_in(item)]
    return []
