"""OpenVINO on the processor, on ONNX files: in float32, in bfloat16, and with 8-bit weights and inputs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from automl.measures.backends.base import Backend, Network


def _load(precision: str, path: Path, threads: int) -> Network:
    import openvino

    options = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,  # it would choose bfloat16 by itself where the processor has it
    }
    try:
        compiled = openvino.Core().compile_model(str(path), "CPU", options)
    except RuntimeError as error:
        # 2026.4 cannot fuse linear layers from one value to one, which are products of numbers: then nothing is fused.
        if "snippets" not in str(error):
            raise
        compiled = openvino.Core().compile_model(str(path), "CPU", {**options, "SNIPPETS_MODE": "DISABLE"})
    request = compiled.create_infer_request()

    def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        found = request.infer(dict(enumerate(inputs)), share_inputs=True)
        return [np.asarray(found[port]) for port in compiled.outputs]

    return run


_F32, _BF16 = partial(_load, "f32"), partial(_load, "bf16")
OPENVINO = Backend("openvino", "onnx", "openvino", _F32)
OPENVINO_BF16 = Backend("openvino-bf16", "onnx", "openvino", _BF16, "openvino", 0.2)
OPENVINO_INT8 = Backend("openvino-int8", "onnx-int8", "openvino", _F32, "openvino", 0.1)
