"""Image data sets in their published file formats, split so that the test images stay untouched."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from automl.data.sources import names

if TYPE_CHECKING:
    from automl.data.images import ImageSet
    from automl.data.splits import Splits, load

__all__ = ["ImageSet", "Splits", "load", "names"]

_HOMES = {"ImageSet": "images", "Splits": "splits", "load": "splits"}


def __getattr__(name: str) -> Any:
    """Load what needs torch on first use, so that the names alone do not wait for it."""
    if name in _HOMES:
        return getattr(import_module(f"automl.data.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'automl.data' has no attribute {name!r}")
