"""What `code` has made of a network, in ONNX: rounded inputs as QuantizeLinear, weights as integers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from search_spaces.graph.inputs import HIGHEST
from search_spaces.operators.code import SCALE

Kept = Mapping[str, tuple[Tensor, Tensor]]
"""Initializer -> the integers that `code` chose, in its shape, and the scale of each channel in the file, above 0."""


def with_quantized_inputs(model: Any) -> None:
    """Write each rounding of inputs (divided, rounded, clipped, multiplied) as QuantizeLinear and DequantizeLinear.

    In place. Both compute the same, and of these ONNX Runtime and others know that the layer after them can be computed
    with integers.
    """
    import onnx

    constants = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    made = {node.output[0]: node for node in model.graph.node}
    nodes = []
    for node in model.graph.node:
        chain = _chain(node, made)
        if chain is None or not _is_8_bit(chain, constants):
            nodes.append(node)
            continue
        divide, _, clip, _ = chain
        zero = np.array(round(-float(constants[clip.input[1]])), dtype=np.uint8)
        quantized, zero_name = f"{node.output[0]}_quantized", f"{node.output[0]}_zero_point"
        model.graph.initializer.append(onnx.numpy_helper.from_array(zero, zero_name))
        scale = divide.input[1]
        nodes.append(onnx.helper.make_node("QuantizeLinear", [divide.input[0], scale, zero_name], [quantized]))
        nodes.append(onnx.helper.make_node("DequantizeLinear", [quantized, scale, zero_name], node.output))
    _set_nodes(model, nodes)
    _remove_unused(model)


def with_integers(model: Any, kept: Kept) -> Any:
    """A copy of `model` in which the weights `kept` are integers of 8 bits and their scales (DequantizeLinear)."""
    import onnx

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    array = onnx.numpy_helper.from_array
    nodes = []
    for name, (integers, scale) in kept.items():
        parts = [f"{name}_quantized", f"{name}_scale_of_channels", f"{name}_zero_points"]
        values = (integers.numpy().astype(np.int8), scale.numpy(), np.zeros(len(scale), dtype=np.int8))
        copied.graph.initializer.extend(array(value, part) for value, part in zip(values, parts, strict=True))
        nodes.append(onnx.helper.make_node("DequantizeLinear", parts, [name], axis=0))
    for initializer in [one for one in copied.graph.initializer if one.name in kept]:
        copied.graph.initializer.remove(initializer)
    _set_nodes(copied, [*nodes, *copied.graph.node])
    return copied


def integers_kept(network: nn.Module, model: Any) -> dict[str, tuple[Tensor, Tensor]]:
    """The weights of `model` that `code` has rounded.

    The exporter folds norms into them, which changes the scale of a channel, and its sign, and nothing else.
    """
    import onnx

    written = {one.name: one for one in model.graph.initializer}
    found = {}
    for name, module in network.named_modules():
        scale, initializer = getattr(module, SCALE, None), written.get(f"{name}.weight")
        if scale is None or initializer is None:
            continue
        weight = module.get_parameter("weight").detach()
        along = scale.view(-1, *[1] * (weight.ndim - 1))
        integers = (weight / along).round()
        in_file = torch.from_numpy(np.array(onnx.numpy_helper.to_array(initializer)))
        if in_file.shape != weight.shape:
            continue
        largest = integers.flatten(1).abs().argmax(1, keepdim=True)
        ratio = in_file.flatten(1).gather(1, largest) / integers.flatten(1).gather(1, largest)
        factor = torch.where(ratio.isfinite() & (ratio != 0), ratio, torch.ones_like(ratio)).flatten()
        found[initializer.name] = (integers * factor.sign().view_as(along), factor.abs().float())
    return found


def as_rounded(content: bytes, kept: Kept) -> int:
    """How many layers have in the file the integers that `code` chose, up to the sign that a norm gives a channel."""
    import onnx

    written = {one.name: onnx.numpy_helper.to_array(one) for one in onnx.load_from_string(content).graph.initializer}
    return sum(np.array_equal(written[f"{name}_quantized"], integers) for name, (integers, _) in kept.items())


def _chain(node: Any, made: Mapping[str, Any]) -> tuple[Any, Any, Any, Any] | None:
    """The four nodes that round, if `node` is the last of such four."""
    chain = [node]
    for kind in ("Mul", "Clip", "Round", "Div"):
        if chain[0] is None or chain[0].op_type != kind:
            return None
        chain.insert(0, made.get(chain[0].input[0]))
    return tuple(chain[1:])


def _is_8_bit(chain: tuple[Any, Any, Any, Any], constants: Mapping[str, np.ndarray]) -> bool:
    """Whether the four round to 256 numbers, of which one is 0, by one scale."""
    divide, _, clip, multiply = chain
    known = [constants.get(name) for name in (divide.input[1], multiply.input[1], *clip.input[1:3])]
    if len(clip.input) < 3 or any(value is None or value.size != 1 for value in known):
        return False
    scale, other, low, high = (float(value) for value in known if value is not None)
    return scale == other and high - low == HIGHEST and low == round(low) and low <= 0 <= high


def _remove_unused(model: Any) -> None:
    """Remove the nodes and the constants that nothing reads any more."""
    used = {one.name for one in model.graph.output}
    nodes: list[Any] = []
    for node in reversed(model.graph.node):
        if used & {*node.output}:
            nodes.insert(0, node)
            used |= {*node.input}
    _set_nodes(model, nodes)
    for initializer in [one for one in model.graph.initializer if one.name not in used]:
        model.graph.initializer.remove(initializer)


def _set_nodes(model: Any, nodes: list[Any]) -> None:
    del model.graph.node[:]
    model.graph.node.extend(nodes)
