"""Sizes read from tensors while a network is recorded, which remember how they were computed."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from torch import fx


class TracedInt(int):
    """A size read from a tensor while recording: an ordinary int that remembers how it was computed."""

    _node: Callable[[], fx.Node]

    def __new__(cls, value: int, node: Callable[[], fx.Node]) -> TracedInt:
        """An int of this `value`, which `node()` computes anew in the recorded graph."""
        self = super().__new__(cls, value)
        self._node = node
        return self

    @property
    def node(self) -> fx.Node:
        """The graph node that computes the size."""
        return self._node()

    def _combine(self, op: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
        if not isinstance(a, int) or not isinstance(b, int):
            return NotImplemented
        value = op(int(a), int(b))

        def node() -> fx.Node:
            return self.node.graph.call_function(op, (_as_argument(a), _as_argument(b)))

        return type(self)(value, once(node))

    def __add__(self, other: Any) -> Any:
        return self._combine(operator.add, self, other)

    def __radd__(self, other: Any) -> Any:
        return self._combine(operator.add, other, self)

    def __sub__(self, other: Any) -> Any:
        return self._combine(operator.sub, self, other)

    def __rsub__(self, other: Any) -> Any:
        return self._combine(operator.sub, other, self)

    def __mul__(self, other: Any) -> Any:
        return self._combine(operator.mul, self, other)

    def __rmul__(self, other: Any) -> Any:
        return self._combine(operator.mul, other, self)

    def __floordiv__(self, other: Any) -> Any:
        return self._combine(operator.floordiv, self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return self._combine(operator.floordiv, other, self)

    def __mod__(self, other: Any) -> Any:
        return self._combine(operator.mod, self, other)

    def __rmod__(self, other: Any) -> Any:
        return self._combine(operator.mod, other, self)

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __neg__(self) -> Any:
        return self * -1

    def __reduce__(self) -> tuple[Any, ...]:
        return int, (int(self),)


class UncachedInt(TracedInt):
    """A size that no cache knows: of those that are kept by shape, each would give back plain numbers of before."""

    __hash__ = object.__hash__


def once(make: Callable[[], fx.Node]) -> Callable[[], fx.Node]:
    """Call `make` at the first use only, so that a size nobody uses leaves no node behind."""
    made: list[fx.Node] = []

    def node() -> fx.Node:
        if not made:
            made.append(make())
        return made[0]

    return node


def _as_argument(value: Any) -> Any:
    return value.node if isinstance(value, TracedInt) else value
