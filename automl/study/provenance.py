"""Where a study's numbers come from: the version of this program, and the machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def code_version() -> str:
    """The version of this distribution, with the commit if it runs from a checkout."""
    version = importlib.metadata.version("automl-compress")
    home = Path(__file__).resolve().parents[2]
    if not (home / ".git").exists():
        return version
    command = ["git", "-C", str(home), "describe", "--always", "--dirty"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):  # no git, or no commit yet
        return version
    return f"{version}+{commit}"


def environment(threads: int) -> Mapping[str, Any]:
    """Where the numbers came from."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "threads": threads,
    }
