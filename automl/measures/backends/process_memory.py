"""The memory of this process at its highest, while something is loaded and run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def with_peak(action: Callable[[], T]) -> tuple[T, int | None]:
    """What `action` returns, and how many bytes it added to the process at its highest; None where nobody tells.

    Linux tells, where it lets a process reset its own high-water mark (`/proc/self/clear_refs`, proc(5)).
    """
    before = _after_reset()
    result = action()
    highest = _bytes("VmHWM") if before is not None else None
    return result, max(0, highest - before) if highest is not None and before is not None else None


def _after_reset() -> int | None:
    try:
        _RESET.write_text("5")
    except OSError:
        return None
    return _bytes("VmRSS")


def _bytes(key: str) -> int | None:
    try:
        lines = _STATUS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:")), None)
