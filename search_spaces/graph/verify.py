"""Whether a recorded network computes what the network does, and what each of its calls takes."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_flatten, tree_map

from search_spaces.errors import TraceError
from search_spaces.graph.counting import MACS, counting_macs
from search_spaces.graph.sizes import VARIES


def verify(model: nn.Module, traced: fx.GraphModule, inputs: tuple[Any, ...], expected: Any) -> None:
    """Run the recorded network on the example, and on other data in a larger batch where the model allows it.

    Every call is marked by the MACs that it took; every size, and every dimension of a tensor, by whether it is another
    with another batch.
    """
    with counting_macs() as macs:
        here = _Observed(traced, macs)
        got = here.run(*inputs)
    for node, count in here.macs.items():
        node.meta[MACS] = count
    _require_equal(got, expected, "on the example input itself")
    other = tuple(_other_batch(x) for x in inputs)
    try:
        expected = model(*other)
    except Exception:
        return  # the model is made for this batch size only
    there = _Observed(traced)
    try:
        got = there.run(*other)
    except Exception as error:
        raise TraceError(f"the network cannot be recorded: it depends on the batch size ({error})") from error
    _require_equal(got, expected, "on other data: its forward branches on values or on the batch size")
    for node, size in here.sizes.items():
        node.meta[VARIES] = tree_map(operator.ne, size, there.sizes[node])


class _Observed(fx.Interpreter):
    """Runs a recorded network and notes the sizes in it, and what each call takes."""

    def __init__(self, network: fx.GraphModule, macs: Callable[[], int] = lambda: 0) -> None:
        super().__init__(network)
        self._so_far = macs
        self.sizes: dict[fx.Node, Any] = {}
        """Node -> the size that it computes, or those of its tensor."""
        self.macs: dict[fx.Node, int] = {}
        """Node -> multiply-accumulates of the whole batch."""

    def run_node(self, n: fx.Node) -> Any:
        before = self._so_far()
        out = super().run_node(n)
        self.macs[n] = self._so_far() - before
        if isinstance(out, Tensor):
            self.sizes[n] = tuple(out.shape)
        elif isinstance(out, int):
            self.sizes[n] = out
        return out


def _other_batch(x: Any) -> Any:
    if not isinstance(x, Tensor) or not x.dim():
        return x
    other = torch.cat([x.flip(0), x[:1]])
    return other * 0.9 if other.is_floating_point() else other


def _require_equal(got: Any, expected: Any, when: str) -> None:
    for a, b in zip(tree_flatten(got)[0], tree_flatten(expected)[0], strict=True):
        if isinstance(b, Tensor) and not torch.allclose(a, b, rtol=1e-3, atol=1e-4, equal_nan=True):
            raise TraceError(
                f"the network cannot be recorded: run again, it gives something else {when} "
                f"(largest difference {(a - b).abs().max():.3g})"
            )
