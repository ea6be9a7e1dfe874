"""Standard networks for small images, and loading of any network a user names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from automl.zoo.registry import create, names

if TYPE_CHECKING:
    from automl.zoo.loading import load_model

__all__ = ["create", "load_model", "names"]


def __getattr__(name: str) -> Any:
    """Load `load_model` on first use, so that the names alone do not wait for torch."""
    if name == "load_model":
        from automl.zoo.loading import load_model

        return load_model
    raise AttributeError(f"module 'automl.zoo' has no attribute {name!r}")
