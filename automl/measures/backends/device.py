"""The machine that something was measured on, and what it ran with."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from functools import lru_cache
from pathlib import Path
from typing import Any

TELLING = (
    *("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16"),
    *("asimddp", "i8mm", "bf16", "sve"),
)
"""The instructions that decide how fast integers and short floats are."""


@lru_cache(maxsize=1)
def cpu_name() -> str:
    """The processor's own name where the system tells it, else its architecture."""
    return _told("model name") or platform.processor() or platform.machine()


def identity() -> dict[str, Any]:
    """What tells this machine from another: processor, instructions, cores, memory, system; no name of host or user."""
    flags = (_told("flags") or _told("Features")).split()
    return {
        "processor": cpu_name(),
        "architecture": platform.machine(),
        "instructions": [name for name in TELLING if name in flags],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
    }


def versions(*packages: str) -> dict[str, str]:
    """Package -> its version here, and Python's; those that are not installed are left out."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _told(key: str) -> str:
    """What the system says of its first processor under `key`, if anything."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(key):
                return line.partition(":")[2].strip()
    return ""
