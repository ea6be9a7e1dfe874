"""The network that is learned from: run fast and without gradients, looked into, remembered."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from automl.errors import ModelError
from automl.fast.fold import folded
from automl.fast.fuse import fuse
from automl.fast.precision import converted, formatted

CACHE_BYTES = 2**28
"""What a `CachedTeacher` may remember: the outputs of 6.7 million samples of 10 classes, or of 67,000 of 1,000."""


def tapped(network: nn.Module, nodes: Sequence[str]) -> fx.GraphModule:
    """A network that returns `(outputs, values of the nodes)` and shares everything else with `network`.

    Modules, parameters and buffers are the same objects, so it trains and is trained along. Raises `ModelError` for a
    network that is not recorded, or a node that it does not have.
    """
    if not isinstance(network, fx.GraphModule):
        raise ModelError(
            f"only a recorded network can be looked into, got {type(network).__name__}: build it with a NetworkSpace"
        )
    graph = fx.Graph()
    copies: dict[str, fx.Node] = {}
    for node in network.graph.nodes:
        if node.op != "output":
            copies[node.name] = graph.node_copy(node, lambda old: copies[old.name])
            continue
        missing = [name for name in nodes if name not in copies]
        if missing:
            raise ModelError(f"the network's graph has no node {missing[0]!r}: is it built from the same original?")
        outputs = fx.map_arg(node.args[0], lambda old: copies[old.name])
        graph.output((outputs, tuple(copies[name] for name in nodes)))
    return fx.GraphModule(network, graph)


class Teacher:
    """A network in eval mode with batch norms folded, on a CPU also fused, that gives no gradients.

    It follows the inputs to their device. On a CPU it runs in `dtype`, elsewhere under the autocast there is.
    """

    def __init__(self, network: nn.Module, nodes: Sequence[str] = (), *, dtype: torch.dtype = torch.float32) -> None:
        """`nodes`: of the graph of a recorded network, whose values are wanted too."""
        self.nodes = tuple(nodes)
        self._folded = folded(tapped(network, nodes) if nodes else network)
        self._dtype = dtype
        self._device: torch.device | None = None
        self._quick: nn.Module = self._folded

    def __call__(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The outputs, [n, ...], and the values of the nodes, all float32. Several outputs: `ModelError`."""
        device = inputs[0].device
        if device != self._device:
            self._move(inputs[0])
        own = device.type == "cpu"
        if own:  # the fused operators do not follow autocast
            ((inputs, _),) = formatted([(inputs, inputs[0])], self._dtype)
        with torch.no_grad(), torch.autocast(device.type, enabled=not own and torch.is_autocast_enabled(device.type)):
            found = self._quick(*inputs)
        outputs, values = found if self.nodes else (found, ())
        if not isinstance(outputs, Tensor):
            raise ModelError(f"a teacher must have a single tensor as output, got {type(outputs).__name__}")
        return outputs.float(), tuple(value.float() for value in values)

    def _move(self, x: Tensor) -> None:
        """To the device, and off the CPU the memory format, of the input `x`."""
        self._device = x.device
        quick: Any = copy.deepcopy(self._folded).requires_grad_(False)
        if x.device.type == "cpu":
            self._quick = converted(fuse(quick, self._dtype), self._dtype)
            return
        last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
        self._quick = quick.to(x.device, memory_format=torch.channels_last if last else torch.preserve_format)


class CachedTeacher:
    """A teacher that remembers the outputs for every sample it has seen, by the bytes of the sample's inputs.

    So it is right whatever order, batches or augmentation the samples come in; with augmentation no sample comes
    twice, and remembering takes time and memory for nothing. Beyond `CACHE_BYTES` nothing more is remembered.
    """

    nodes: tuple[str, ...] = ()

    def __init__(self, teacher: Teacher, limit_bytes: int = CACHE_BYTES) -> None:
        """`teacher`: one without nodes, whose values would be too large."""
        if teacher.nodes:
            raise ValueError("a teacher whose inner values are wanted cannot be cached")
        self.computed = 0
        """How many samples the teacher has been run on."""
        self._teacher = teacher
        self._limit_bytes = limit_bytes
        self._rows: dict[bytes, int] = {}
        self._table: Tensor | None = None  # [capacity, ...], the first len(_rows) in use

    def __call__(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The outputs, [n, ...], and no values."""
        keys = _fingerprints(inputs)
        new = [i for i, key in enumerate(keys) if key not in self._rows]
        if not new:
            return self._recall(keys), ()
        computed, _ = self._teacher(inputs if len(new) == len(keys) else tuple(x[new] for x in inputs))
        self.computed += len(new)
        if len(new) == len(keys):
            outputs = computed
        else:
            outputs = computed.new_empty(len(keys), *computed.shape[1:])
            outputs[new] = computed
            known = [i for i, key in enumerate(keys) if key in self._rows]
            outputs[known] = self._recall([keys[i] for i in known])
        self._remember([keys[i] for i in new], computed)
        return outputs, ()

    def _recall(self, keys: list[bytes]) -> Tensor:
        """The outputs remembered: [keys, ...]."""
        assert self._table is not None
        return self._table[torch.tensor([self._rows[key] for key in keys], device=self._table.device)]

    def _remember(self, keys: list[bytes], outputs: Tensor) -> None:
        """Keep the outputs, [keys, ...], unless there is no room."""
        needed = len(self._rows) + len(keys)
        if needed * outputs[0].nbytes > self._limit_bytes:
            return
        if self._table is None or needed > len(self._table):
            capacity = max(2 * needed, 1024)
            table = outputs.new_empty(capacity, *outputs.shape[1:])
            if self._table is not None:
                table[: len(self._rows)] = self._table[: len(self._rows)]
            self._table = table
        # A sample may stand in a batch twice.
        self._table[[self._rows.setdefault(key, len(self._rows)) for key in keys]] = outputs


def _fingerprints(inputs: tuple[Tensor, ...]) -> list[bytes]:
    """A digest of each sample: [n]."""
    digests = [hashlib.blake2b(digest_size=16) for _ in range(len(inputs[0]))]
    for x in inputs:
        rows = x.detach().cpu().contiguous().view(len(x), -1).view(torch.uint8).numpy()
        for digest, row in zip(digests, rows, strict=True):
            digest.update(row)
    return [digest.digest() for digest in digests]
