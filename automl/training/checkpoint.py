"""A file from which a training goes on, whole at any moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from automl.errors import StudyError
from automl.util.files import replacing

VERSION = 2


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state`, plain data and tensors. Errors: `StudyError`."""
    # A file, since with a path torch.save would have errors of its own.
    with replacing(path, "the checkpoint", make_folder=True) as partial, partial.open("wb") as file:
        torch.save({"version": VERSION, **state}, file)


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """What was written to `path`; None if there is no file. No pickled code is run. Errors: `StudyError`."""
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        version = state["version"]
    except Exception as error:  # torch.load raises whatever the bytes lead it to
        raise StudyError(f"{path} is not the checkpoint of a training: {error}. Remove it to train anew") from error
    if version != VERSION:
        raise StudyError(f"{path} has version {version}, this program reads {VERSION}. Remove it to train anew")
    return state
