"""The backends, by the name that a budget gives them."""

from __future__ import annotations

from automl.errors import BackendError
from automl.measures.backends.base import Backend
from automl.measures.backends.compiled import COMPILE
from automl.measures.backends.eager import EAGER
from automl.measures.backends.onnx_runtime import ONNX_RUNTIME, ONNX_RUNTIME_INT8
from automl.measures.backends.open_vino import OPENVINO, OPENVINO_BF16, OPENVINO_INT8
from automl.util.names import nearest

BACKENDS: dict[str, Backend] = {
    backend.name: backend
    for backend in (EAGER, COMPILE, ONNX_RUNTIME, ONNX_RUNTIME_INT8, OPENVINO, OPENVINO_BF16, OPENVINO_INT8)
}


def backend_of(name: str) -> Backend:
    """The backend of this name, installed or not. Errors: `BackendError`."""
    if name not in BACKENDS:
        raise BackendError(f"no backend {name!r}{nearest(name, BACKENDS)}")
    return BACKENDS[name]
