"""ExecuTorch on the processor, by XNNPACK: what PyTorch's networks run on where there is no Python, in float32."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from automl.measures.backends.base import Backend, Network


def _load(path: Path, threads: int) -> Network:
    import torch
    from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool
    from executorch.runtime import Runtime

    # The process has one pool of threads, unsafe to change while something runs: nothing does before it is loaded.
    _unsafe_reset_threadpool(threads)
    method = Runtime.get().load_program(path).load_method("forward")

    def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        found: Sequence[torch.Tensor] = method.execute([torch.from_numpy(x) for x in inputs])
        return [out.numpy() for out in found]

    return run


EXECUTORCH = Backend("executorch", "executorch", "executorch", _load)
