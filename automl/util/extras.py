"""Packages that come with an extra of ours: what says so before work begins that would need one."""

from __future__ import annotations

from importlib.util import find_spec

from automl.errors import MissingPackageError

EXTRAS = {
    **dict.fromkeys(("onnx", "onnxruntime", "onnxscript"), "onnx"),
    **{name: name for name in ("ray", "openvino", "executorch")},
    **dict.fromkeys(("litert_torch", "ai_edge_litert", "ai_edge_quantizer"), "litert"),
}
"""Package -> the extra that brings it."""


def require(what: str, *packages: str) -> None:
    """Raise `MissingPackageError` if `what` needs a package that is not installed."""
    for package in packages:
        if find_spec(package) is None:
            wanted = f"'automl-compress[{EXTRAS[package]}]'" if package in EXTRAS else package
            raise MissingPackageError(
                f"{what} needs the package {package}, which is not installed here: python -m pip install {wanted}"
            )
