"""Files that are whole at any moment, and that nobody else reads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from automl.errors import AutomlError, StudyError

PRIVATE = 0o600
"""The mode of what holds data of a user: databases, exported studies, weights, checkpoints."""


def make_private(path: Path) -> None:
    """Make an empty file that only its owner reads, whose mode stays when it is written. Errors: `OSError`, also if
    something is there already, be it a link."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE))


@contextmanager
def replacing(
    path: Path, what: str, failure: type[AutomlError] = StudyError, *, make_folder: bool = False
) -> Iterator[Path]:
    """An empty file beside `path`, to be written in the block and moved there after it, once it is on the disk: a kill
    leaves the old file or the new. Only its owner reads it.

    `what` it is, for the `failure` that it is if it cannot be written. `make_folder`: where there is none.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)  # left by a killed process of the same number
        make_private(partial)
        yield partial
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(path)
    except OSError as error:
        raise failure(f"cannot write {what} {path}: {error}. Make room, or its folder writable") from error
    finally:
        with suppress(OSError):  # the error to report is the first
            partial.unlink(missing_ok=True)
