"""The weight tensors of convolutions and linear layers, and which of their dimensions are inputs and outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, fx, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

Layer = _ConvNd | nn.Linear


@dataclass(frozen=True)
class WeightTensor:
    """The weights of a convolution or linear layer, or of several that share them."""

    name: str
    """In the network's state dict."""
    layers: tuple[str, ...]
    shape: tuple[int, ...]
    macs: int
    """Multiply-accumulates of all its uses, for one sample."""
    height: int
    width: int
    """Of what the first layer reads."""
    width_made: int
    """Of what every use makes, as far as they are as wide; else 0."""
    height_made: int
    """The same of heights."""

    @property
    def size(self) -> int:
        """How many weights it has."""
        return math.prod(self.shape)


def find_tensors(network: fx.GraphModule) -> tuple[WeightTensor, ...]:
    """The weights of the convolutions and linear layers of a recorded network, in the order of their first use."""
    names = {id(tensor): name for name, tensor in state_of(network).items()}
    found: dict[str, WeightTensor] = {}
    for node in network.graph.nodes:
        if node.op != "call_module":
            continue
        # A layer recorded as one call may hold others, as attention holds its output projection.
        for path, layer in network.get_submodule(str(node.target)).named_modules(prefix=str(node.target)):
            weight = layer._parameters.get("weight")
            if not isinstance(layer, (_ConvNd, nn.Linear)) or weight is None or not weight.is_floating_point():
                continue
            read, made = (_shape(node.all_input_nodes[0]), _shape(node)) if path == node.target else ((), ())
            name = names[id(weight)]
            new = _tensor(name, path, layer, weight, read, made)
            old = found.get(name)
            if old is not None:
                layers = tuple(dict.fromkeys((*old.layers, path)))
                made_wide = old.width_made if (old.width, old.width_made) == (new.width, new.width_made) else 0
                made_high = old.height_made if (old.height, old.height_made) == (new.height, new.height_made) else 0
                sizes = (old.height, old.width, made_wide, made_high)
                new = WeightTensor(name, layers, old.shape, old.macs + new.macs, *sizes)
            found[name] = new
    return tuple(found.values())


def _tensor(
    name: str, path: str, layer: Layer, weight: Tensor, read: Sequence[int], made: Sequence[int]
) -> WeightTensor:
    """One use of a tensor, by a layer that reads and makes tensors of these shapes; () where they are not known."""
    if isinstance(layer, nn.Linear):
        positions, sizes = math.prod(made[1:-1]), (1, 1, 1, 1)
    else:
        dims = len(layer.kernel_size)
        positions = math.prod((read if isinstance(layer, _ConvTransposeNd) else made)[-dims:])
        height, width = (1, 1, *read[-dims:])[-2:]
        height_made, width_made = (1, 1, *made[-dims:])[-2:]
        sizes = (height, width, width_made, height_made)
    return WeightTensor(name, (path,), tuple(weight.shape), weight.numel() * positions, *sizes)


def _shape(node: fx.Node) -> tuple[int, ...]:
    shape = node.meta.get("shape")
    return shape if isinstance(shape, tuple) and all(isinstance(size, int) for size in shape) else ()


def state_of(network: nn.Module) -> dict[str, Tensor]:
    """The state dict with each shared tensor once, under its first name; parameters are the parameters themselves."""
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in network.state_dict(keep_vars=True).items():
        if isinstance(tensor, Tensor) and id(tensor) not in seen:
            seen.add(id(tensor))
            tensors[name] = tensor
    return tensors


def channels(layer: Layer) -> tuple[int, int]:
    """How many channels a layer reads and makes, over all groups."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    return layer.in_channels, layer.out_channels


def along_inputs(layer: Layer, factors: Tensor) -> Tensor:
    """`factors`, one for each input channel, [in], in a shape that broadcasts with the layer's weight."""
    return _along(layer, factors, first=isinstance(layer, _ConvTransposeNd))


def along_outputs(layer: Layer, factors: Tensor) -> Tensor:
    """`factors`, one for each output channel, [out], in a shape that broadcasts with the layer's weight."""
    return _along(layer, factors, first=not isinstance(layer, _ConvTransposeNd))


def _along(layer: Layer, factors: Tensor, *, first: bool) -> Tensor:
    """Along the weight's first dimension, which holds all groups, or along its second, which holds those of one."""
    weight = layer.weight
    if first:
        return factors.reshape(-1, *[1] * (weight.ndim - 1))
    groups = 1 if isinstance(layer, nn.Linear) else layer.groups
    rows = factors.reshape(groups, -1).repeat_interleave(len(weight) // groups, dim=0)
    return rows.reshape(*rows.shape, *[1] * (weight.ndim - 2))
