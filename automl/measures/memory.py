"""Peak memory of the activations during a forward pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from automl.util.garbage import uncollected
from automl.util.modes import evaluating
from search_spaces.graph.liveness import Liveness


def peak_activation_bytes(network: nn.Module, inputs: Sequence[Tensor]) -> int:
    """The most bytes of activations alive at once in one forward pass over `inputs`, [n, ...] each, as given.

    Alive are the inputs, from start to end, and every tensor an operator returned, until Python drops the last
    reference to its storage. Views cost nothing, and neither do parameters, buffers and the scratch memory inside
    an operator. This is a property of the network's graph, not of an allocator: the same on every machine.
    """
    tracker = Liveness()
    tracker.ignore([*network.parameters(), *network.buffers()])
    for tensor in inputs:
        tracker.see(tensor)
    try:
        # Where Python looks for cycles depends on all that the process has made before; what it drops would differ.
        with uncollected(), evaluating(network), torch.no_grad(), tracker:
            network(*inputs)
    finally:
        tracker.forget()
    return tracker.peak


def sample_peak(network: nn.Module, example_inputs: Sequence[Tensor]) -> int:
    """`peak_activation_bytes` of the first sample alone, which is what a budget on `peak_memory` limits."""
    return peak_activation_bytes(network, tuple(x[:1] for x in example_inputs))
