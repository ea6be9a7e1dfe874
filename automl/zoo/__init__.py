"""Standard networks for small images, and loading of any network a user names, those of hubs among them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from automl.zoo.registry import create, names

if TYPE_CHECKING:
    from automl.zoo.hubs.base import Preprocessing
    from automl.zoo.hubs.registry import preprocessing
    from automl.zoo.trained import load_model, load_weights

__all__ = ["Preprocessing", "create", "load_model", "load_weights", "names", "preprocessing"]

_HOMES = {
    "load_model": "trained",
    "load_weights": "trained",
    "Preprocessing": "hubs.base",
    "preprocessing": "hubs.registry",
}


def __getattr__(name: str) -> Any:
    """Load what loads networks on first use, so that the names alone do not wait for torch."""
    if name in _HOMES:
        return getattr(import_module(f"automl.zoo.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'automl.zoo' has no attribute {name!r}")
