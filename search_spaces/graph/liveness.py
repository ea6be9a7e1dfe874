"""Which storages of tensors are alive while a network runs."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from search_spaces.graph.uncompiled import Uncompiled


class Liveness(Uncompiled):
    """Adds the bytes of each storage when an operator first returns it, subtracts them when it dies.

    Views cost nothing, and neither does the scratch memory inside an operator.
    """

    def __init__(self, made: Callable[[int, Tensor, Any], None] | None = None) -> None:
        """`made`: told of each storage that is new by its number, a tensor on it, and what the operator returned."""
        super().__init__()  # type: ignore[no-untyped-call]  # PyTorch's own, which has no annotations
        self.alive: dict[int, int] = {}
        """The number of each storage that is alive -> its bytes."""
        self.total = 0
        self.peak = 0
        """The most bytes that were alive at once."""
        self._made = made
        self._known: dict[int, tuple[weakref.finalize[..., Any], int]] = {}
        self._count = 0

    def ignore(self, tensors: Iterable[Tensor]) -> None:
        """Count nothing for the storages of these, such as parameters."""
        for tensor in tensors:
            self._enter(tensor, 0)

    def see(self, tensor: Tensor, returned: Any = None) -> None:
        """Count the storage of a tensor, unless it is known."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self._known:
            number = self._enter(tensor, storage.nbytes())
            if self._made is not None:
                self._made(number, tensor, returned)

    def number(self, tensor: Tensor) -> int | None:
        """The number of a tensor's storage, if it is counted."""
        known = self._known.get(tensor.untyped_storage()._cdata)
        return None if known is None or known[1] not in self.alive else known[1]

    def forget(self) -> None:
        """Let go of storages that outlive the run."""
        for finalizer, _ in self._known.values():
            finalizer.detach()
        self._known.clear()

    def _enter(self, tensor: Tensor, size: int) -> int:
        storage = tensor.untyped_storage()
        number, self._count = self._count, self._count + 1
        self._known[storage._cdata] = (weakref.finalize(storage, self._die, storage._cdata, number), number)
        if size:
            self.alive[number] = size
            self.total += size
            self.peak = max(self.peak, self.total)
        return number

    def _die(self, key: int, number: int) -> None:
        self.total -= self.alive.pop(number, 0)
        self._known.pop(key, None)

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self.see(leaf, out)
        return out
