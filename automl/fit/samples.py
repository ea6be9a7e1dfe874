"""How many samples may go through a network at once: bounds on memory that are known before anything runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from torch import Tensor, fx

from automl.tasks.batches import Batch

MAP_BYTES = 2**28
"""The largest feature map of all samples together; of larger inputs fewer samples are used."""
GRAPH_BYTES = 2**30
"""What a pass with gradients may keep; larger batches are gone through in parts."""


def affordable(nodes: Iterable[fx.Node], inputs: Sequence[Tensor]) -> int:
    """How many samples keep the maps that `nodes` make within `MAP_BYTES` each."""
    maps = [math.prod(shape[1:]) for shape in shapes_of(nodes)]
    return min(len(inputs[0]), max(1, MAP_BYTES // (4 * max(maps, default=1))))


def differentiable(network: fx.GraphModule, batches: Iterable[Batch]) -> Iterator[Batch]:
    """`batches`, or parts of them that keep all that `network` makes within `GRAPH_BYTES`."""
    sample = 4 * sum(math.prod(shape[1:]) for shape in shapes_of(network.graph.nodes))
    yield from in_parts(batches, max(1, GRAPH_BYTES // max(sample, 1)))


def in_parts(batches: Iterable[Batch], most: int) -> Iterator[Batch]:
    """`batches`, those of more than `most` samples in parts."""
    for inputs, targets in batches:
        for begin in range(0, len(targets), most):
            part = slice(begin, begin + most)
            yield tuple(x[part] for x in inputs), targets[part]


def shapes_of(nodes: Iterable[fx.Node]) -> list[tuple[int, ...]]:
    """The shapes of the tensors that `nodes` make, as recorded, the batch first."""
    shapes = [node.meta.get("shape") for node in nodes]
    return [shape for shape in shapes if isinstance(shape, tuple) and shape and isinstance(shape[0], int)]
