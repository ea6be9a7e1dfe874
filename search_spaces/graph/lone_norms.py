"""Batch norms that one layer alone feeds, and that alone it feeds."""

from __future__ import annotations

from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def lone_norms(network: fx.GraphModule) -> dict[str, str]:
    """Convolution or linear layer -> the batch norm that is the only one to consume it and consumes nothing else.

    Both are called exactly once, so that whatever is moved from one to the other reaches nobody else.
    """
    calls: dict[str, int] = {}
    for node in network.graph.nodes:
        if node.op == "call_module":
            calls[str(node.target)] = calls.get(str(node.target), 0) + 1
    pairs: dict[str, str] = {}
    for node in network.graph.nodes:
        if node.op != "call_module" or len(node.all_input_nodes) != 1:
            continue
        norm, source = str(node.target), node.all_input_nodes[0]
        if source.op != "call_module" or len(source.users) != 1:
            continue
        layer = str(source.target)
        module = network.get_submodule(norm)
        tracked = isinstance(module, _BatchNorm) and module.running_mean is not None
        if tracked and calls[norm] == calls[layer] == 1 and isinstance(network.get_submodule(layer), _LAYERS):
            pairs[layer] = norm
    return pairs


def movable_norms(network: fx.GraphModule) -> dict[str, _BatchNorm]:
    """Layer -> the norm that `lone_norms` names, where it has weights, so that it can be moved into the layer."""
    norms = {layer: network.get_submodule(name) for layer, name in lone_norms(network).items()}
    return {layer: norm for layer, norm in norms.items() if isinstance(norm, _BatchNorm) and norm.affine}
