"""Running, measuring, recording and exporting the compression of trained networks.

`automl.compress(model, train_data, validation_data, budget="macs <= 50%")` is the whole program in one call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from automl.util.packages import check_packages

check_packages()

if TYPE_CHECKING:
    from automl.api import CompressionResult, compress

__all__ = ["CompressionResult", "compress"]


def __getattr__(name: str) -> Any:
    """Load `compress` on first use, so that `import automl` and `automl --help` do not wait for torch."""
    if name in __all__:
        from automl import api

        return getattr(api, name)
    raise AttributeError(f"module 'automl' has no attribute {name!r}")
