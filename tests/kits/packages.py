"""Packages that bring something by entry points, installed in folders of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


def installed(project: Path, folder: Path) -> Path:
    """`folder`, into which pip has installed the project; nothing is fetched."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-index", "--no-deps"]
    done = subprocess.run(
        [*command, "--no-build-isolation", "--target", folder, project], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


def recorded(folder: Path, name: str, entry_points: Mapping[str, Mapping[str, str]]) -> None:
    """Record that package `name` 1.0 is installed in `folder`, as pip does. `entry_points`: group -> name -> object."""
    record = folder / f"{name}-1.0.dist-info"
    record.mkdir(parents=True)
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    groups = (
        "\n".join([f"[{group}]", *(f"{key} = {value}" for key, value in points.items())])
        for group, points in entry_points.items()
    )
    (record / "entry_points.txt").write_text("\n\n".join(groups) + "\n")
