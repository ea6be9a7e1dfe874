"""Peak memory of the activations during a forward pass."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from automl.util.modes import evaluating


def peak_activation_bytes(network: nn.Module, inputs: Sequence[Tensor]) -> int:
    """The most bytes of activations alive at once in one forward pass over `inputs`, [n, ...] each, as given.

    Alive are the inputs, from start to end, and every tensor an operator returned, until Python drops the last
    reference to its storage. Views cost nothing, and neither do parameters, buffers and the scratch memory inside
    an operator. This is a property of the network's graph, not of an allocator: the same on every machine.
    """
    gc.collect()  # garbage of before must not die, and so be subtracted, meanwhile
    tracker = _Liveness()
    for tensor in [*network.parameters(), *network.buffers()]:
        tracker.ignore(tensor)
    for tensor in inputs:
        tracker.see(tensor)
    try:
        with evaluating(network), torch.no_grad(), tracker:
            network(*inputs)
    finally:
        tracker.forget()
    return tracker.peak


class _Liveness(TorchDispatchMode):
    """Adds the bytes of each storage when an operator first returns it, subtracts them when it dies."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # PyTorch's own, which has no annotations
        self.alive = 0
        self.peak = 0
        self._known: dict[int, weakref.finalize[..., Any]] = {}

    def ignore(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        self._known[storage._cdata] = weakref.finalize(storage, self._die, storage._cdata, 0)

    def see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self.alive += size
        self.peak = max(self.peak, self.alive)
        self._known[key] = weakref.finalize(storage, self._die, key, size)

    def _die(self, key: int, size: int) -> None:
        self.alive -= size
        self._known.pop(key, None)

    def forget(self) -> None:
        """Let go of storages that outlive the forward pass."""
        for finalizer in self._known.values():
            finalizer.detach()
        self._known.clear()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self.see(leaf)
        return out
