"""The one count of multiply-accumulates: what a network takes is counted while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import flop_registry, shape_wrapper

from search_spaces.graph.uncompiled import Uncompiled

MACS = "macs"
"""The key in `meta` of how many multiply-accumulates a recorded call took, for the whole batch."""


@contextmanager
def counting_macs() -> Iterator[Callable[[], int]]:
    """Count the multiply-accumulates of all that runs: the function given says how many there were so far.

    Those of convolutions, linear layers, matrix products, attention and recurrent layers count, by PyTorch's own
    formulas (which count 2 FLOPs each); element-wise work, normalisation and pooling do not. PyTorch's fused CPU
    kernels for attention and transformer layers would count as nothing, so attention runs as plain products here.
    """
    counter = _Counter()
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), counter:
            yield lambda: counter.flops // 2
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)


class _Counter(Uncompiled):
    """Adds up the FLOPs of each operator that runs.

    `FlopCounterMode` does the same module by module, for which it hooks into gradients, and so fails on networks that
    hand a parameter on from one module to the next while none are recorded.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        with self:
            out = func.decompose(*args, **kwargs)
        if out is not NotImplemented:
            return out
        out = func(*args, **kwargs)
        formula = _FORMULAS.get(func.overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **kwargs, out_val=out)
        return out


def _mv(matrix: Sequence[int], vector: Sequence[int], *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return 2 * matrix[0] * matrix[1]


def _dot(a: Sequence[int], b: Sequence[int], *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return 2 * a[0]


def _recurrent(
    x: Sequence[int], w_in: Sequence[int], w_hidden: Sequence[int], *args: Any, out_shape: Any = None, **kwargs: Any
) -> int:
    # oneDNN's LSTM layer, one direction: x [time, n, in], weights [4 * hidden, in] and [4 * hidden, hidden].
    return 2 * x[0] * x[1] * (w_in[0] * w_in[1] + w_hidden[0] * w_hidden[1])


_FORMULAS: dict[Any, Callable[..., int]] = {
    **flop_registry,
    torch.ops.aten.mv: shape_wrapper(_mv),
    torch.ops.aten.addmv: shape_wrapper(lambda bias, matrix, *rest, **named: _mv(matrix, *rest, **named)),
    torch.ops.aten.dot: shape_wrapper(_dot),
    torch.ops.aten.mkldnn_rnn_layer: shape_wrapper(_recurrent),
}
"""PyTorch's formulas, and those of matrix products that it has none for."""
