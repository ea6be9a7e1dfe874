"""The backends, by the name that a budget gives them."""

from __future__ import annotations

from automl.errors import BackendError
from automl.measures.backends.base import Backend
from automl.measures.backends.compiled import COMPILE
from automl.measures.backends.eager import EAGER
from automl.measures.backends.execu_torch import EXECUTORCH
from automl.measures.backends.lite_rt import LITERT, LITERT_INT8
from automl.measures.backends.onnx_runtime import ONNX_RUNTIME, ONNX_RUNTIME_INT8
from automl.measures.backends.open_vino import OPENVINO, OPENVINO_BF16, OPENVINO_INT8
from automl.util.names import nearest
from search_spaces.offered import Offered

BACKENDS: dict[str, Backend] = {
    backend.name: backend
    for backend in (
        *(EAGER, COMPILE, ONNX_RUNTIME, ONNX_RUNTIME_INT8, OPENVINO, OPENVINO_BF16, OPENVINO_INT8),
        *(EXECUTORCH, LITERT, LITERT_INT8),
    )
}


OFFERED: Offered[Backend] = Offered(
    "automl.backends",
    "a Backend of that name",
    lambda name, found: isinstance(found, Backend) and found.name == name,
    lambda: BACKENDS,
    BackendError,
)
"""Those that packages bring."""


def backend_of(name: str) -> Backend:
    """The backend of this name, installed or not. Errors: `BackendError`."""
    if name in BACKENDS:
        return BACKENDS[name]
    offered = OFFERED.names()
    if name not in offered:
        raise BackendError(f"no backend {name!r}{nearest(name, (*BACKENDS, *offered))}")
    return OFFERED.load(name)


def backends() -> list[Backend]:
    """All there are, installed or not, but for those of packages that are broken, which are told of."""
    return [*BACKENDS.values(), *OFFERED.sound().values()]
