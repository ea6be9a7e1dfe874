"""Running, measuring, recording and exporting the compression of trained networks.

`automl.compress(model, train_data, validation_data, budget="macs <= 50%")` is the whole program in one call,
`automl.design(train_data, budget="params <= 60k", time="30m")` where there is no network yet, and
`automl.encode("photo.png", "0.5 bpp", "photo.inr")` where a signal is to become one. `automl.slim` and `automl.exits`
make one network of many sizes.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from automl.util.packages import check_packages

check_packages()

if TYPE_CHECKING:
    from automl.api import CompressionResult, compress
    from automl.designs.from_batches import design
    from automl.designs.specialised import specialise
    from automl.dynamic.from_data import exits, slim
    from automl.export.tiled import tiled
    from automl.export.update import apply_update, make_update
    from automl.report.html.from_python import write_report
    from automl.signals.encode_file import decode, encode
    from automl.signals.learning import learn_start
    from automl.store import read_trials

__all__ = [
    "CompressionResult",
    "apply_update",
    "compress",
    "decode",
    "design",
    "encode",
    "exits",
    "learn_start",
    "make_update",
    "read_trials",
    "slim",
    "specialise",
    "tiled",
    "write_report",
]

_HOMES = {
    "CompressionResult": "automl.api",
    "apply_update": "automl.export.update",
    "compress": "automl.api",
    "decode": "automl.signals.encode_file",
    "design": "automl.designs.from_batches",
    "encode": "automl.signals.encode_file",
    "exits": "automl.dynamic.from_data",
    "learn_start": "automl.signals.learning",
    "make_update": "automl.export.update",
    "read_trials": "automl.store",
    "slim": "automl.dynamic.from_data",
    "specialise": "automl.designs.specialised",
    "tiled": "automl.export.tiled",
    "write_report": "automl.report.html.from_python",
}


def __getattr__(name: str) -> Any:
    """Load what is asked for on first use, so that `import automl` and `automl --help` do not wait for torch."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'automl' has no attribute {name!r}")
