"""Quantized inputs: what a layer reads, rounded to 8 bits with a scale and a zero point, as an 8-bit file has it.

The network carries a module `inputs_of.LAYER` for each such layer, which is called on what the layer reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, fx, nn

from search_spaces.errors import SpaceError

INPUTS = "inputs_of"
"""The module that holds one for each layer."""
RANGE = "range"
RANGE_BYTES = 8
"""Two float32 numbers."""
HIGHEST = 255
BITS = 8


class QuantizedInput(nn.Module):
    """Rounds numbers to the nearest of 256, evenly spaced, of which one is 0; those beyond become the last.

    As QuantizeLinear and DequantizeLinear of ONNX do with unsigned 8-bit integers: with q = round(x / scale) + zero
    point, within 0 to 255, (q - zero point) * scale. Both numbers are such as bfloat16 holds, so that a network that is
    evaluated in it has the same ones. Until it is told its range, it reaches from -8 to 8.
    """

    range: Tensor
    """The scale and the zero point: [2]."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer(RANGE, torch.tensor([1 / 16, 128.0]))

    def forward(self, x: Tensor) -> Tensor:
        """The numbers nearest to `x`, of any shape, in its type."""
        scale, zero = self.range.float().unbind()
        steps = (x.float() / scale).round().clamp(-zero, HIGHEST - zero)
        if self.training:  # gradients go straight through the rounding; the sum is what was rounded, bit for bit
            between = (x.float() / scale).clamp(-zero, HIGHEST - zero)
            steps = between + (steps - between).detach()
        return (steps * scale).to(x.dtype)


def range_name(layer: str) -> str:
    """The tensor of a state dict that holds the range of what a layer reads."""
    return f"{INPUTS}.{layer}.{RANGE}"


def quantize_inputs(network: fx.GraphModule, layers: Iterable[str]) -> None:
    """Let each of `layers` read numbers of 8 bits, in place. One that the graph does not call is a `SpaceError`."""
    calls: dict[str, list[fx.Node]] = {}
    for node in network.graph.nodes:
        if node.op == "call_module":
            calls.setdefault(str(node.target), []).append(node)
    for layer in layers:
        if layer not in calls:
            raise SpaceError(f"the plan quantizes what layer {layer!r} reads, which this network does not call")
        network.add_submodule(f"{INPUTS}.{layer}", QuantizedInput().train(network.training))
        for node in calls[layer]:
            (read,) = node.all_input_nodes
            with network.graph.inserting_before(node):
                rounded = network.graph.call_module(f"{INPUTS}.{layer}", (read,))
            rounded.meta.update({key: read.meta[key] for key in ("shape",) if key in read.meta})
            node.replace_input_with(read, rounded)
    network.recompile()


def quantized_inputs(network: nn.Module) -> Iterator[tuple[str, QuantizedInput]]:
    """The layers that read numbers of 8 bits, each with what rounds them."""
    for name, module in network.named_modules():
        if isinstance(module, QuantizedInput):
            yield name.removeprefix(f"{INPUTS}."), module
