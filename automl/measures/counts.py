"""Counts of a network: multiply-accumulates, parameters, bytes on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from automl.measures.memory import sample_peak
from automl.types import Measurement
from automl.util.modes import evaluating
from automl.util.quantities import shown
from search_spaces.codecs.bitmask import stored
from search_spaces.codecs.integers import holds
from search_spaces.codecs.packing import pack
from search_spaces.graph.counting import counting_macs
from search_spaces.graph.inputs import BITS, quantized_inputs
from search_spaces.operators.code import SCALE
from search_spaces.pricing.metrics import FLOAT_BITS, PEAK

PRICED = ("macs", "params", "size_bytes")
"""The costs that every network has."""
COUNTED = (*PRICED, "bops", PEAK)
"""The costs that are counted on a built network, the last two where a study has them."""


@dataclass(frozen=True)
class Counting:
    """What is counted of networks whose weights are not all stored as they are."""

    packed: bool = False
    """Whether the file is a packed one."""
    sparse: bool = False
    """Whether a parameter that is zero counts as gone."""
    coded: bool = False
    """Whether weights may be integers, so that bit operations are counted."""
    memory: bool = False
    """Whether the peak memory of the activations of one sample is counted."""


PLAIN = Counting()


def count_macs(network: nn.Module, inputs: Sequence[Tensor]) -> int:
    """MACs per sample, as `counting_macs` counts them. `inputs` are forward's arguments, [n, ...] each."""
    with evaluating(network), torch.no_grad(), counting_macs() as macs:
        network(*inputs)
    return -(-macs() // inputs[0].shape[0])


def count_bops(network: nn.Module, inputs: Sequence[Tensor]) -> int:
    """Bit operations per sample: each multiply-accumulate times the bits of its weight and of its activation.

    Layers whose weights are integers times a scale (`search_spaces.operators.code`) have the fewest bits that hold
    them, those that read rounded numbers (`search_spaces.graph.inputs`) 8, all else 32.
    """
    saved = 0
    hooks = []
    rounded = {name for name, _ in quantized_inputs(network)}

    def count(bits: int, layer: nn.Module, args: object, out: Tensor) -> None:
        nonlocal saved
        weight = layer.weight
        assert isinstance(weight, Tensor)
        positions = out.numel() // weight.shape[0]
        saved += (FLOAT_BITS**2 - bits) * weight.numel() * positions

    for name, layer in network.named_modules():
        scale = getattr(layer, SCALE, None)
        form = holds(layer.get_parameter("weight"), scale) if isinstance(scale, Tensor) else None
        bits = (FLOAT_BITS if form is None else form.bits) * (BITS if name in rounded else FLOAT_BITS)
        if bits < FLOAT_BITS**2:
            hooks.append(layer.register_forward_hook(partial(count, bits)))
    try:
        macs = count_macs(network, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return FLOAT_BITS**2 * macs - saved // len(inputs[0])


def count_params(network: nn.Module) -> int:
    """Trainable and frozen parameters, shared ones once; buffers such as running statistics are none."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_nonzero(network: nn.Module) -> int:
    """Parameters that are not zero, shared ones once."""
    return sum(int(stored(parameter).sum()) for parameter in network.parameters())


def size_bytes(network: nn.Module) -> int:
    """Length of the safetensors file of the network's state dict, header included, shared tensors stored once."""
    from safetensors.torch import save

    return len(save(state_tensors(network)[0]))


def counts(network: nn.Module, example_inputs: Sequence[Tensor], counting: Counting = PLAIN) -> list[Measurement]:
    """MACs per sample, parameters, bytes of the file and what else `counting` says of `network`, counted on it."""
    params = count_nonzero(network) if counting.sparse else count_params(network)
    size = len(pack(state_tensors(network)[0])) if counting.packed else size_bytes(network)
    return [
        Measurement("macs", count_macs(network, example_inputs), "MAC"),
        Measurement("params", params),
        Measurement("size_bytes", size, "B"),
        *([Measurement("bops", count_bops(network, example_inputs))] if counting.coded else []),
        *([Measurement(PEAK, sample_peak(network, example_inputs), "B")] if counting.memory else []),
    ]


def excess(measured: Sequence[Measurement], limits: Mapping[str, float]) -> str | None:
    """Which of `limits` (metric -> upper limit) the measurements exceed, in words, or None."""
    over = [m for m in measured if m.metric in limits and m.value > limits[m.metric]]
    return ", ".join(f"{m.metric} {shown(m.value)} > {shown(limits[m.metric])}" for m in over) or None


def state_tensors(network: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The state dict as tensors that share no memory, and for each key left out the key that holds its tensor.

    A module used under two names, or a tied weight, stands in the file once.
    """
    tensors: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    first: dict[tuple[Any, ...], str] = {}
    for key, tensor in network.state_dict().items():
        place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and place in first:
            aliases[key] = first[place]
        else:
            first[place] = key
            tensors[key] = tensor.clone(memory_format=torch.contiguous_format)
    return tensors, aliases
