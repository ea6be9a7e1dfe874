"""Running, measuring, recording and exporting the compression of trained networks.

`automl.compress(model, train_data, validation_data, budget="macs <= 50%")` is the whole program in one call,
`automl.design(train_data, budget="params <= 60k", time="30m")` where there is no network yet. `automl.slim` and
`automl.exits` make one network of many sizes.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from automl.util.packages import check_packages

check_packages()

if TYPE_CHECKING:
    from automl.api import CompressionResult, compress
    from automl.designs.from_batches import design
    from automl.dynamic.from_data import exits, slim
    from automl.report.html.from_python import write_report
    from automl.store import read_trials

__all__ = ["CompressionResult", "compress", "design", "exits", "read_trials", "slim", "write_report"]

_HOMES = {
    "CompressionResult": "automl.api",
    "compress": "automl.api",
    "design": "automl.designs.from_batches",
    "exits": "automl.dynamic.from_data",
    "read_trials": "automl.store",
    "slim": "automl.dynamic.from_data",
    "write_report": "automl.report.html.from_python",
}


def __getattr__(name: str) -> Any:
    """Load what is asked for on first use, so that `import automl` and `automl --help` do not wait for torch."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'automl' has no attribute {name!r}")
