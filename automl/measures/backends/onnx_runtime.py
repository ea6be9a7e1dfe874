"""ONNX Runtime on the processor, in float32 and with 8-bit weights and inputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from automl.measures.backends.base import Backend, Network


def session(model: str | bytes, threads: int) -> Any:
    """A session of exactly `threads` threads for a file, or its content."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def running(opened: Any) -> Network:
    """Run a session with arrays."""
    names = [one.name for one in opened.get_inputs()]

    def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        outputs: list[np.ndarray] = opened.run(None, dict(zip(names, inputs, strict=True)))
        return outputs

    return run


def _load(path: Path, threads: int) -> Network:
    return running(session(str(path), threads))


ONNX_RUNTIME = Backend("onnxruntime", "onnx", "onnxruntime", _load)
ONNX_RUNTIME_INT8 = Backend("onnxruntime-int8", "onnx-int8", "onnxruntime", _load, "onnxruntime", 0.1)
