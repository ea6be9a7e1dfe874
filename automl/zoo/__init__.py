"""Standard networks for small images, and loading of any network a user names."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from automl.zoo.registry import create, names

if TYPE_CHECKING:
    from automl.zoo.trained import load_model, load_weights

__all__ = ["create", "load_model", "load_weights", "names"]


def __getattr__(name: str) -> Any:
    """Load what loads networks on first use, so that the names alone do not wait for torch."""
    if name in ("load_model", "load_weights"):
        return getattr(import_module("automl.zoo.trained"), name)
    raise AttributeError(f"module 'automl.zoo' has no attribute {name!r}")
