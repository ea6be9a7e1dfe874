"""How latency is measured for a budget on it."""

from __future__ import annotations

from dataclasses import dataclass

from automl.errors import ConfigError
from search_spaces import offered_names

PREDICTED = "predicted_latency_ms"
"""The metric of a `LatencyTable`: not `latency_ms`, which is measured on the network itself."""

EAGER = "eager"
BACKENDS = (
    *(EAGER, "compile", "onnxruntime", "onnxruntime-int8", "openvino", "openvino-bf16", "openvino-int8"),
    *("executorch", "litert", "litert-int8"),
)
"""What a limit on latency may be `on`: the names in `automl.measures.backends.registry`, which takes longer to load."""


def known_backends() -> list[str]:
    """All of those: ours, and those that packages bring."""
    return [*BACKENDS, *offered_names("automl.backends", BACKENDS)]


@dataclass(frozen=True)
class LatencyOptions:
    """How latency is measured for a budget on it."""

    batch: int = 1
    """Samples in a forward pass."""
    threads: int = 1
    """Of the forward pass."""
    widths: int = 7
    """Widths of a group that are timed, the smallest and the whole one among them; between them is interpolated."""

    fast_widths: bool | None = None
    """Whether only such widths are searched as are measured to be faster on the budget's backend than any greater one.
    By default where latency is the only limit, but for widths alone in eager PyTorch, which has a table."""
    processes: int = 3
    """Fresh processes that the winner is timed in, for its certificate."""
    corrections: int = 2
    """How often in the first half of the trials the model of latency is scaled to what the best networks take."""

    def __post_init__(self) -> None:
        for name, least in (("batch", 1), ("threads", 1), ("widths", 2), ("processes", 1), ("corrections", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}")
